#!/usr/bin/env python3
"""Turns the sample of the Open Bandit Dataset in the package `obp` (Apache-2.0) into tables for `vitrine-trainer`.

    pip download --no-deps obp==0.4.1 && unzip obp-0.4.1-py3-none-any.whl 'obp/dataset/*'
    python3 trainer/scripts/open_bandit.py obp/dataset/obd men FOLDER

Writes bts.inter (what Thompson sampling showed), random.inter (what chance showed) and men.item. A user is whoever has the same four features.
"""
import csv
import datetime
import pathlib
import sys

FEATURES = [f"user_feature_{number}" for number in range(4)]


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def write(path, header, lines):
    with open(path, "w", encoding="utf-8") as file:
        file.writelines("\t".join(cells) + "\n" for cells in [header, *lines])


def main(source, campaign, target):
    source, target = pathlib.Path(source), pathlib.Path(target)
    target.mkdir(parents=True, exist_ok=True)
    for policy in ["bts", "random"]:
        header = ["user_id:token", "item_id:token", "timestamp:float", "position:token", "click:float", "propensity:float", *(f"{name}:token" for name in FEATURES)]
        log = rows(source / policy / campaign / f"{campaign}.csv")
        lines = ([user(row), row["item_id"], str(datetime.datetime.fromisoformat(row["timestamp"]).timestamp()), row["position"], row["click"],
                  row["propensity_score"], *(row[name] for name in FEATURES)] for row in log)
        write(target / f"{policy}.inter", header, lines)
    header = ["item_id:token", "item_feature_0:float", *(f"item_feature_{number}:token" for number in range(1, 4))]
    items = rows(source / "bts" / campaign / "item_context.csv")
    write(target / f"{campaign}.item", header, ([row["item_id"], *(row[f"item_feature_{number}"] for number in range(4))] for row in items))


def user(row):
    return "-".join(row[name][:6] for name in FEATURES)


if len(sys.argv) != 4:
    raise SystemExit(__doc__)
main(*sys.argv[1:])
