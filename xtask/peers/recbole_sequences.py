#!/usr/bin/env python3
"""RecBole's SASRec and GRU4Rec on MovieLens 100K, as `vitrine-trainer train` learns and scores: leave-one-out, the last 50 items of a
history, all items ranked. NDCG@10 and HR@10 are given twice: as RecBole ranks (items of the history too), and without those that the user has
met, as we do.

    python3 -m venv venv && venv/bin/pip install torch recbole==1.2.1 --no-deps
    venv/bin/pip install numpy pandas scipy scikit-learn tqdm colorlog colorama pyyaml tabulate texttable thop psutil tensorboard
    MALLOC_MMAP_THRESHOLD_=17179869184 MALLOC_TRIM_THRESHOLD_=17179869184 venv/bin/python xtask/peers/recbole_sequences.py SASRec 1

The two variables let glibc keep what tensors free: without them a batch of SASRec took 5.7 to 7.2 s on two cores, with them 4.5. Passes are
told as they end.
"""
import collections
import json
import math
import os
import pathlib
import sys
import tempfile
import time

import numpy as np
import torch

# Names that RecBole takes from an older NumPy.
for name, kind in {"float": float, "int": int, "bool": bool, "object": object, "long": int, "unicode_": np.str_, "float_": np.float64, "complex_": np.complex128}.items():
    if not hasattr(np, name):
        setattr(np, name, kind)

# PyTorch before 2.6 read its own checkpoints without being asked.
read = torch.load
torch.load = lambda *arguments, **named: read(*arguments, **{"weights_only": False} | named)

import recbole
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed

name, seed = sys.argv[1], int(sys.argv[2])
os.chdir(tempfile.mkdtemp())  # It logs into the folder in which it is called.
folder = pathlib.Path(recbole.__file__).parent / "dataset_example"
settings = {
    "data_path": str(folder), "checkpoint_dir": tempfile.mkdtemp(), "use_gpu": False, "seed": seed, "show_progress": False,
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]}, "MAX_ITEM_LIST_LENGTH": 50,
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"},
    "loss_type": "CE", "train_neg_sample_args": None, "topk": [10], "metrics": ["NDCG", "Hit"], "valid_metric": "NDCG@10",
    "epochs": 300, "stopping_step": 10, "state": "ERROR",
}
for setting in sys.argv[3:]:
    key, value = setting.split("=")
    settings[key] = json.loads(value)
config = Config(model=name, dataset="ml-100k", config_dict=settings)
init_seed(seed, True)
dataset = create_dataset(config)
training, validation, test = data_preparation(config, dataset)
model = get_model(name)(config, training.dataset)
trainer = get_trainer(config["MODEL_TYPE"], name)(config, model)
begun = time.time()
tell = lambda number, score: print(f"pass {number + 1}: {score:.4f} of validation, {time.time() - begun:.0f} s", file=sys.stderr, flush=True)
trainer.fit(training, validation, verbose=False, show_progress=False, callback_fn=tell)
theirs = trainer.evaluate(test, load_best_model=True, show_progress=False)

met = collections.defaultdict(set)
users, items = dataset.inter_feat["user_id"].tolist(), dataset.inter_feat["item_id"].tolist()
for user, item in zip(users, items):
    met[user].add(item)
model.eval()
ndcg = hits = count = 0
with torch.no_grad():
    for batch in test:
        interaction, targets = batch[0], batch[3]
        scores = model.full_sort_predict(interaction)
        for user, target, row in zip(interaction["user_id"].tolist(), targets.tolist(), scores):
            row[list({0} | met[user] - {target})] = -math.inf
            place = int((row > row[target]).sum())
            count += 1
            if place < 10:
                hits += 1
                ndcg += 1 / math.log2(place + 2)
print(json.dumps({
    "model": name, "seed": seed, "users": count, "seconds": round(time.time() - begun), "ndcg@10": ndcg / count, "hr@10": hits / count,
    "ndcg@10 with met items": float(theirs["ndcg@10"]), "hr@10 with met items": float(theirs["hit@10"]),
}))
