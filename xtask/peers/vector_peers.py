#!/usr/bin/env python3
"""Times the libraries that one would use instead of our vector search, on the same vectors and on this machine.

    python3 -m venv venv && venv/bin/pip install numpy hnswlib usearch
    venv/bin/python xtask/peers/vector_peers.py [--pictures FOLDER] [--vectors FILE] [--json]

hnswlib is compiled when it is installed, for this machine's processor: a C++ compiler is needed. FOLDER and FILE are those
that `cargo xtask bench vectors` names; queries, and what counts as right, are the same as there: an answer is right if it
is as near as the last of the true ten. Graphs have M = 16 and are made with a width of 200, on as many threads as there are
cores. Searches run on one thread, all queries in one call, so that Python is not measured.

Only figures of one sitting can be compared: run both in turn.
"""

import argparse
import gzip
import json
import os
import sqlite3
import statistics
import time

import numpy as np

K = 10
HELD_OUT = 1000
M, BUILD_WIDTH = 16, 200
WIDTHS = [16, 24, 32, 48, 64, 96, 128, 192]


def pictures(folder):
    def read(name):
        with gzip.open(os.path.join(folder, f"{name}-images-idx3-ubyte.gz")) as file:
            return np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 784).astype(np.float32)

    return "l2", read("train"), read("t10k")


def generation(path):
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        rows = [row for (row,) in db.execute("SELECT row FROM vectors ORDER BY doc")]
    distinct = list(dict.fromkeys(rows))
    vectors = np.stack([np.frombuffer(row, np.float16) for row in distinct]).astype(np.float32)
    every = len(vectors) // HELD_OUT
    held_out = np.zeros(len(vectors), bool)
    held_out[: every * HELD_OUT : every] = True
    return "cosine", vectors[~held_out], vectors[held_out]


def distances(metric, query, items):
    """In double precision: squared, or 1 less the cosine."""
    query, items = query.astype(np.float64), items.astype(np.float64)
    if metric == "l2":
        return ((items - query) ** 2).sum(1)
    return 1 - items @ query / np.linalg.norm(items, axis=1) / np.linalg.norm(query)


def limits(metric, items, queries, spare=50):
    """How far the last of the true nearest is, for each query."""
    if metric == "l2":
        weighed, offset = items, (items**2).sum(1)
    else:
        weighed, offset = items / np.linalg.norm(items, axis=1, keepdims=True), 0
    found = []
    for start in range(0, len(queries), 500):
        block = queries[start : start + 500]
        rough = offset - 2 * block @ weighed.T
        for query, near in zip(block, np.argpartition(rough, spare, 1)[:, :spare]):
            found.append(np.sort(distances(metric, query, items[near]))[K - 1])
    return np.array(found)


def recall(metric, items, queries, limit, found):
    right = sum(
        (distances(metric, query, items[near]) <= last + 1e-9).sum()
        for query, near, last in zip(queries, found, limit)
    )
    return right / (K * len(queries))


class Hnswlib:
    name = "hnswlib"

    def __init__(self, metric, items, threads):
        import hnswlib

        self.index = hnswlib.Index(space=metric, dim=items.shape[1])
        self.index.init_index(len(items), M=M, ef_construction=BUILD_WIDTH, random_seed=1)
        self.index.add_items(items, num_threads=threads)

    def search(self, queries, width):
        self.index.set_ef(width)
        return self.index.knn_query(queries, K, num_threads=1)[0]


class Usearch:
    name = "usearch f16"

    def __init__(self, metric, items, threads):
        from usearch.index import Index

        metric = {"l2": "l2sq", "cosine": "cos"}[metric]
        self.index = Index(
            ndim=items.shape[1], metric=metric, dtype="f16", connectivity=M, expansion_add=BUILD_WIDTH
        )
        self.index.add(np.arange(len(items)), items, threads=threads)

    def search(self, queries, width):
        self.index.expansion_search = width
        return self.index.search(queries, K, threads=1).keys


def measure(peer, metric, items, queries, limit, options):
    began = time.perf_counter()
    index = peer(metric, items, os.cpu_count())
    build = time.perf_counter() - began
    print(f"{peer.name}: graph made in {build:.1f} s\n\n| what | recall@{K} | searches/s | of {options.runs} runs |")
    print("|---|---|---|---|")
    figures = {"build_s": build, "widths": {}}
    for width in options.widths:
        rates = []
        for _ in range(options.runs):
            began = time.perf_counter()
            found = index.search(queries, width)
            rates.append(len(queries) / (time.perf_counter() - began))
        share, median = recall(metric, items, queries, limit, found), statistics.median(rates)
        print(f"| width {width} | {share:.4f} | {median:.0f} | {min(rates):.0f} to {max(rates):.0f} |", flush=True)
        figures["widths"][width] = {"recall": share, "per_second": median, "least": min(rates), "most": max(rates)}
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", metavar="FOLDER")
    parser.add_argument("--vectors", metavar="FILE")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--widths", type=lambda text: [int(word) for word in text.split(",")], default=WIDTHS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = {}
    for name, read in [("pictures", pictures), ("vectors", generation)]:
        if getattr(options, name):
            metric, items, queries = read(getattr(options, name))
            print(f"{name}: {len(items)} × {items.shape[1]}")
            limit = limits(metric, items, queries)
            figures[name] = {
                peer.name: measure(peer, metric, items, queries, limit, options) for peer in (Hnswlib, Usearch)
            }
    if options.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
