#!/usr/bin/env python3
"""torch-rechub's DeepFM and DCN V2 on MovieLens 100K as clicks, as `vitrine-trainer train deepfm` learns and scores: ratings of 4 and 5, in order of
time 80 % to learn from, 10 % to stop by, and the newest 10 % that are foretold.

    python3 -m venv venv && venv/bin/pip install torch numpy pandas scikit-learn tqdm && venv/bin/pip install --no-deps torch-rechub==0.9.0
    venv/bin/python xtask/peers/rechub_clicks.py FOLDER_OF_ML_100K DeepFM 1

FM is their DeepFM without its network. Columns are those that ours looks at; words that were not met while learning share a place.
"""
import contextlib
import io
import json
import sys
import time

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import log_loss, roc_auc_score
from torch_rechub.basic.features import SequenceFeature, SparseFeature
from torch_rechub.basic.layers import FM, LR, EmbeddingLayer
from torch_rechub.models.ranking import DCNv2, DeepFM
from torch_rechub.trainers import CTRTrainer
from torch_rechub.utils.data import DataGenerator

WIDTH, MOST_WORDS = 16, 8
folder, name, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
torch.manual_seed(seed)
np.random.seed(seed)


def table(kind):
    read = pd.read_csv(f"{folder}/ml-100k.{kind}", sep="\t", dtype=str, keep_default_na=False)
    return read.rename(columns=lambda column: column.split(":")[0])


log = table("inter").merge(table("user"), on="user_id", how="left").merge(table("item"), on="item_id", how="left").fillna("")
log = log.sort_values("timestamp", key=lambda times: times.astype(float), kind="stable")
clicked = (log.rating.astype(float) >= 4).astype(int).to_numpy()
parts = [slice(0, len(log) * 8 // 10), slice(len(log) * 8 // 10, len(log) * 9 // 10), slice(len(log) * 9 // 10, None)]

inputs, features = {}, []
for column in ["user_id", "item_id", "age", "gender", "occupation", "zip_code", "movie_title", "release_year", "class"]:
    words = log[column].str.split() if column in ("movie_title", "class") else log[column].map(lambda word: [word] if word else [])
    known = {word: place for place, word in enumerate(sorted({word for cell in words[parts[0]] for word in cell}), start=2)}
    # 0 is no word, 1 one that was never met.
    ids = [[known.get(word, 1) for word in cell[:MOST_WORDS]] for cell in words]
    if column in ("movie_title", "class"):
        inputs[column] = np.array([cell + [0] * (MOST_WORDS - len(cell)) for cell in ids])
        features.append(SequenceFeature(column, len(known) + 2, WIDTH, pooling="mean", padding_idx=0))
    else:
        inputs[column] = np.array([cell[0] if cell else 0 for cell in ids])
        features.append(SparseFeature(column, len(known) + 2, WIDTH))


class FactorizationMachine(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.linear, self.pairs = EmbeddingLayer(features), LR(WIDTH * len(features)), FM(reduce_sum=True)

    def forward(self, examples):
        vectors = self.embedding(examples, features, squeeze_dim=False)
        return torch.sigmoid((self.linear(vectors.flatten(start_dim=1)) + self.pairs(vectors)).squeeze(1))


network = {"dims": [128, 64], "dropout": 0.3, "activation": "relu"}
model = {
    "FM": FactorizationMachine,
    "DeepFM": lambda: DeepFM(features, features, network),
    "DCNv2": lambda: DCNv2(features, 2, network, use_low_rank_mixture=False),
}[name]()
part = lambda which: ({column: values[which] for column, values in inputs.items()}, clicked[which])
(learnt, learnt_clicked), (stop, stop_clicked), (newest, newest_clicked) = map(part, parts)
loaders = DataGenerator(learnt, learnt_clicked).generate_dataloader(
    x_val=stop, y_val=stop_clicked, x_test=newest, y_test=newest_clicked, batch_size=512)
begun = time.time()
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    trainer = CTRTrainer(model, optimizer_params={"lr": 1e-3, "weight_decay": 1e-5}, n_epoch=50, earlystop_patience=3)
    trainer.fit(loaders[0], loaders[1])
    chances = np.array(trainer.predict(model, loaders[2]))
print(json.dumps({
    "model": name, "seed": seed, "auc": roc_auc_score(newest_clicked, chances), "log_loss": log_loss(newest_clicked, chances),
    "validation_auc": trainer.early_stopper.best_auc, "seconds": round(time.time() - begun),
}))
