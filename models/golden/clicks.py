#!/usr/bin/env python3
"""Makes deepfm.safetensors and dcn-v2.safetensors: weights from a seed, examples, and the log-odds that PyTorch makes of them, from
the papers' formulas, field by field and pair by pair.

    python3 -m venv venv && venv/bin/pip install torch safetensors
    venv/bin/python models/golden/clicks.py

Three fields: up to 3 words in 8 buckets, a number, and a word in 4 buckets. `ids` u32 and `weights` f32 are [examples, 5]; of the same
examples `lr`, `fm` and `deepfm` are the log-odds without pairs and network, without network, and with both.
"""
import itertools
import pathlib

import torch
from safetensors.torch import save_file
from torch.nn import functional as F

ROWS, SLOTS, WIDTH, LAYERS, CROSSES = 13, [[0, 1, 2], [3], [4]], 4, [6, 5], 2
INPUTS = len(SLOTS) * WIDTH
IDS = torch.tensor([[0, 3, 0, 8, 9], [7, 1, 2, 8, 12], [0, 0, 0, 8, 10]])
WEIGHTS = torch.tensor([[0.5, 0.5, 0.0, 1.5, 1.0], [1 / 3, 1 / 3, 1 / 3, -0.7, 1.0], [0.0, 0.0, 0.0, 0.2, 0.0]])
HERE = pathlib.Path(__file__).parent


def fields(table, ids, weights):
    return [sum(weights[slot] * table[ids[slot]] for slot in slots) for slots in SLOTS]


def deep(w, x):
    for layer in range(len(LAYERS)):
        x = F.linear(x, w[f"deep.{layer}.weight"], w[f"deep.{layer}.bias"]).relu()
    return x


def deepfm(w):
    for ids, weights in zip(IDS, WEIGHTS):
        lr = sum(fields(w["linear.weight"], ids, weights)) + w["bias"]
        vectors = fields(w["vectors.weight"], ids, weights)
        fm = lr + sum(a @ b for a, b in itertools.combinations(vectors, 2))
        top = F.linear(deep(w, torch.cat(vectors)), w["deep.output.weight"], w["deep.output.bias"])
        yield lr, fm, fm + top


def dcn(w):
    for ids, weights in zip(IDS, WEIGHTS):
        first = torch.cat(fields(w["vectors.weight"], ids, weights))
        crossed = first
        for layer in range(CROSSES):
            crossed = first * F.linear(crossed, w[f"crosses.{layer}.weight"], w[f"crosses.{layer}.bias"]) + crossed
        yield F.linear(torch.cat([crossed, deep(w, first)]), w["output.weight"], w["output.bias"])


def draw(shapes):
    widths = [INPUTS, *LAYERS]
    for layer, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        shapes |= {f"deep.{layer}.weight": (outputs, inputs), f"deep.{layer}.bias": (outputs,)}
    return {name: torch.randn(shape) for name, shape in shapes.items()}


torch.manual_seed(1)
examples = {"ids": IDS.to(torch.uint32), "weights": WEIGHTS}
last = LAYERS[-1]

weights = draw({"linear.weight": (ROWS, 1), "bias": (1,), "vectors.weight": (ROWS, WIDTH), "deep.output.weight": (1, last), "deep.output.bias": (1,)})
lr, fm, both = (torch.cat(logits) for logits in zip(*deepfm(weights)))
save_file(weights | examples | {"lr": lr, "fm": fm, "deepfm": both}, HERE / "deepfm.safetensors")

shapes = {"vectors.weight": (ROWS, WIDTH), "output.weight": (1, INPUTS + last), "output.bias": (1,)}
for layer in range(CROSSES):
    shapes |= {f"crosses.{layer}.weight": (INPUTS, INPUTS), f"crosses.{layer}.bias": (INPUTS,)}
weights = draw(shapes)
save_file(weights | examples | {"dcn-v2": torch.cat(list(dcn(weights)))}, HERE / "dcn-v2.safetensors")
