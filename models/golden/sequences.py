#!/usr/bin/env python3
"""Makes sasrec.safetensors, gru4rec.safetensors and lstm.safetensors: weights from a seed, histories, and what PyTorch makes of
each history by itself, from the papers' formulas.

    python3 -m venv venv && venv/bin/pip install torch safetensors
    venv/bin/python models/golden/sequences.py

`ids` u32 [rows, 6] are padded at the beginning with 0; `vectors` f32 [rows, 6, 8] are 0 there.
"""
import math
import pathlib

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

ITEMS, LENGTH, HIDDEN, HEADS, BLOCKS, STATE = 11, 6, 8, 2, 2, 10
HISTORIES = [[3], [5, 1], [2, 7, 7, 11], [1, 2, 3, 4, 5, 6]]
HERE = pathlib.Path(__file__).parent


def sasrec(weights, history):
    def w(name):
        return weights[name]

    def norm(x, name):
        return F.layer_norm(x, (HIDDEN,), w(f"{name}.weight"), w(f"{name}.bias"), 1e-8)

    def linear(x, name):
        return F.linear(x, w(f"{name}.weight"), w(f"{name}.bias"))

    length, size = len(history), HIDDEN // HEADS
    x = w("items.weight")[history] * math.sqrt(HIDDEN) + w("positions.weight")[LENGTH - length :]
    later = torch.ones(length, length).triu(1).bool()
    for block in range(BLOCKS):
        name = f"blocks.{block}"
        queries, keys, values = linear(norm(x, f"{name}.attention_norm"), f"{name}.projections").chunk(3, dim=-1)
        heads = []
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            scores = queries[:, part] @ keys[:, part].T / math.sqrt(size)
            heads.append(scores.masked_fill(later, -math.inf).softmax(-1) @ values[:, part])
        x = x + linear(torch.cat(heads, -1), f"{name}.output")
        hidden = linear(norm(x, f"{name}.forward_norm"), f"{name}.expand").relu()
        x = x + linear(hidden, f"{name}.contract")
    return norm(x, "norm")


def sasrec_weights():
    shapes = {"items.weight": (ITEMS + 1, HIDDEN), "positions.weight": (LENGTH, HIDDEN)}
    norms = ["norm"] + [f"blocks.{block}.{norm}" for block in range(BLOCKS) for norm in ("attention_norm", "forward_norm")]
    for norm in norms:
        shapes |= {f"{norm}.weight": (HIDDEN,), f"{norm}.bias": (HIDDEN,)}
    for block in range(BLOCKS):
        for name, outputs in [("projections", 3 * HIDDEN), ("output", HIDDEN), ("expand", HIDDEN), ("contract", HIDDEN)]:
            shapes |= {f"blocks.{block}.{name}.weight": (outputs, HIDDEN), f"blocks.{block}.{name}.bias": (outputs,)}
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def recurrent(cell):
    def run(weights, history):
        network = cell(HIDDEN, STATE, batch_first=True)
        network.load_state_dict({name.removeprefix("cell."): w for name, w in weights.items() if name.startswith("cell.")})
        states, _ = network(weights["items.weight"][history].unsqueeze(0))
        return F.linear(states[0], weights["output.weight"], weights["output.bias"])

    return run


def recurrent_weights(cell):
    weights = {f"cell.{name}": torch.randn_like(w) for name, w in cell(HIDDEN, STATE).state_dict().items()}
    shapes = {"items.weight": (ITEMS + 1, HIDDEN), "output.weight": (HIDDEN, STATE), "output.bias": (HIDDEN,)}
    return weights | {name: torch.randn(shape) for name, shape in shapes.items()}


def write(name, weights, network):
    ids = torch.zeros(len(HISTORIES), LENGTH, dtype=torch.int64)
    vectors = torch.zeros(len(HISTORIES), LENGTH, HIDDEN)
    with torch.no_grad():
        for row, history in enumerate(HISTORIES):
            ids[row, LENGTH - len(history) :] = torch.tensor(history)
            vectors[row, LENGTH - len(history) :] = network(weights, history)
    save_file(weights | {"ids": ids.to(torch.uint32), "vectors": vectors}, HERE / f"{name}.safetensors")


torch.manual_seed(1)
write("sasrec", sasrec_weights(), sasrec)
write("gru4rec", recurrent_weights(nn.GRU), recurrent(nn.GRU))
write("lstm", recurrent_weights(nn.LSTM), recurrent(nn.LSTM))
