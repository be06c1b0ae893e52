#!/usr/bin/env python3
"""Makes cnn, efficientnet-lite, cgan-dense and cgan-convolutional.safetensors: weights from a seed, pictures, and what PyTorch computes.

    python3 -m venv venv && venv/bin/pip install torch safetensors efficientnet-lite-pytorch==0.1.0
    venv/bin/python models/golden/pictures.py

Pictures are [pictures, height, width, channels], from 0 to 1. The weights of EfficientNet-Lite0, too many to be kept, are made by a formula (`made_up`), and
the network is that of the package which its published weights belong to.
"""
import pathlib

import torch
from efficientnet_lite_pytorch import EfficientNet
from safetensors.torch import save_file
from torch.nn import functional as F

HERE = pathlib.Path(__file__).parent
torch.manual_seed(1)


def norm(weights, name, x):
    dims = [1, -1] + [1] * (x.dim() - 2)
    mean, var, scale, shift = (weights[f"{name}.{part}"].view(dims) for part in ["running_mean", "running_var", "weight", "bias"])
    return (x - mean) / (var + 1e-5).sqrt() * scale + shift


def norms(name, channels):
    return {f"{name}.weight": torch.rand(channels) + 0.5, f"{name}.bias": torch.randn(channels) * 0.3,
            f"{name}.running_mean": torch.randn(channels) * 0.3, f"{name}.running_var": torch.rand(channels) + 0.5}


def layer(name, *shape, bias=True):
    made = {f"{name}.weight": torch.randn(shape) * 0.3}
    return made | ({f"{name}.bias": torch.randn(shape[0]) * 0.3} if bias else {})


def planes(x):
    return x.permute(0, 3, 1, 2)


def cnn():
    weights = layer("stem", 4, 3, 3, 3, bias=False) | norms("stem_norm", 4) | layer("classes", 5, 6)
    pictures = torch.rand(2, 7, 7, 3)
    x = norm(weights, "stem_norm", F.conv2d(planes(pictures) * 2 - 1, weights["stem.weight"], padding=1)).relu()
    before = 4
    for stage, width in enumerate([4, 6]):
        for block in range(2):
            stride, name = (2 if stage and not block else 1), f"stages.{stage}.{block}"
            weights |= layer(f"{name}.convolutions.0", width, before, 3, 3, bias=False) | layer(f"{name}.convolutions.1", width, width, 3, 3, bias=False)
            weights |= norms(f"{name}.norms.0", width) | norms(f"{name}.norms.1", width)
            y = norm(weights, f"{name}.norms.0", F.conv2d(x, weights[f"{name}.convolutions.0.weight"], stride=stride, padding=1)).relu()
            y = norm(weights, f"{name}.norms.1", F.conv2d(y, weights[f"{name}.convolutions.1.weight"], padding=1))
            if stride > 1 or before != width:
                weights |= layer(f"{name}.shortcut", width, before, 1, 1, bias=False) | norms(f"{name}.shortcut_norm", width)
                x = norm(weights, f"{name}.shortcut_norm", F.conv2d(x, weights[f"{name}.shortcut.weight"], stride=stride))
            x, before = (x + y).relu(), width
    embeddings = x.mean((2, 3))
    return weights | {"pictures": pictures, "embeddings": embeddings, "logits": F.linear(embeddings, weights["classes.weight"], weights["classes.bias"])}


def made_up(name, shape, at):
    numbers = torch.arange(torch.Size(shape).numel()) * 2654435761 + at * 97 & 0xFFFFFFFF
    numbers = (numbers ^ numbers >> 15) * 1103515245 & 0xFFFFFFFF
    numbers = (numbers >> 8).double() / 2**24
    if name.endswith("running_var") or len(shape) == 1 and name.endswith("weight"):
        return (numbers + 0.5).float().reshape(shape)
    fan_in = torch.Size(shape[1:]).numel() if len(shape) > 1 else 12
    return ((numbers - 0.5) * 4 / fan_in**0.5).float().reshape(shape)


def efficientnet_lite():
    network = EfficientNet.from_name("efficientnet-lite0").eval()
    names = sorted(name for name in network.state_dict() if not name.endswith("num_batches_tracked"))
    state = network.state_dict()
    network.load_state_dict({name: made_up(name, tuple(state[name].shape), at) for at, name in enumerate(names)}, strict=False)
    pictures = torch.rand(2, 64, 64, 3)
    centred = (pictures - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    embeddings = network.extract_features(planes(centred)).mean((2, 3))
    return {"pictures": pictures, "embeddings": embeddings, "logits": network._fc(embeddings)}


def spectral(weights, name):
    """The weight over its largest singular value, as the left singular vector that is kept has it."""
    weight = weights[f"{name}.weight"]
    matrix = weight.flatten(1)
    left = torch.linalg.svd(matrix)[0][:, :1].contiguous()
    weights[f"{name}.singular"] = left
    right = F.normalize(matrix.T @ left, dim=0)
    return weight / (left.T @ matrix @ right)


def verdict(weights, features, classes):
    return (spectral(weights, "classes")[classes] * features).sum(1) + F.linear(features, spectral(weights, "output"), weights["output.bias"])[:, 0]


def prefixed(prefix, weights):
    return {f"{prefix}.{name}": weight for name, weight in weights.items()}


def norms_by_class(name, channels):
    return norms(name, channels) | layer(f"{name}.scales", 3, channels, bias=False) | layer(f"{name}.shifts", 3, channels, bias=False)


def norm_by_class(weights, name, x, classes):
    scale, shift = (weights[f"{name}.{part}.weight"][classes].reshape(len(x), -1, *[1] * (x.dim() - 2)) for part in ["scales", "shifts"])
    return norm(weights, name, x) * (1 + scale) + shift


def cgan_dense(noise, classes):
    weights = layer("output", 6 * 6 * 2, 7) | layer("layers.0", 5, 4) | layer("layers.1", 7, 5) | norms_by_class("norms.0", 5) | norms_by_class("norms.1", 7)
    x = noise
    for at in range(2):
        x = F.linear(x, weights[f"layers.{at}.weight"], weights[f"layers.{at}.bias"])
        x = F.leaky_relu(norm_by_class(weights, f"norms.{at}", x, classes), 0.2)
    pictures = F.linear(x, weights["output.weight"], weights["output.bias"]).sigmoid().reshape(-1, 6, 6, 2)
    judge = layer("layers.0", 7, 72) | layer("layers.1", 5, 7) | layer("output", 1, 5) | layer("classes", 3, 5, bias=False)
    x = (pictures * 2 - 1).flatten(1)
    for at in range(2):
        x = F.leaky_relu(F.linear(x, spectral(judge, f"layers.{at}"), judge[f"layers.{at}.bias"]), 0.2)
    return prefixed("generator", weights), pictures, judge, verdict(judge, x, classes)


def cgan_convolutional(noise, classes):
    weights = layer("first", 5 * 5 * 8, 4) | norms_by_class("first_norm", 8) | norms_by_class("norms.0", 4)
    weights |= layer("layers.0", 8, 4, 4, 4, bias=False) | {"output.weight": torch.randn(4, 2, 4, 4) * 0.3, "output.bias": torch.randn(2)}
    x = F.linear(noise, weights["first.weight"], weights["first.bias"])
    x = norm_by_class(weights, "first_norm", planes(x.reshape(-1, 5, 5, 8)), classes).relu()
    x = norm_by_class(weights, "norms.0", F.conv_transpose2d(x, weights["layers.0.weight"], stride=2, padding=1), classes).relu()
    pictures = F.conv_transpose2d(x, weights["output.weight"], weights["output.bias"], stride=2, padding=1).sigmoid().permute(0, 2, 3, 1).contiguous()
    judge = layer("layers.0", 3, 2, 4, 4) | layer("layers.1", 6, 3, 4, 4) | layer("last", 6, 6, 3, 3) | layer("output", 1, 6) | layer("classes", 3, 6, bias=False)
    x = planes(pictures) * 2 - 1
    for at in range(2):
        x = F.leaky_relu(F.conv2d(x, spectral(judge, f"layers.{at}"), judge[f"layers.{at}.bias"], stride=2, padding=1), 0.2)
    x = F.leaky_relu(F.conv2d(x, spectral(judge, "last"), judge["last.bias"], padding=1), 0.2).sum((2, 3))
    return prefixed("generator", weights), pictures, judge, verdict(judge, x, classes)


with torch.no_grad():
    save_file(cnn(), HERE / "cnn.safetensors")
    save_file(efficientnet_lite(), HERE / "efficientnet-lite.safetensors")
    for name, make in {"cgan-dense": cgan_dense, "cgan-convolutional": cgan_convolutional}.items():
        noise, classes = torch.randn(3, 4), torch.tensor([2, 0, 1])
        weights, pictures, judge, verdicts = make(noise, classes)
        given = {"noise": noise, "classes": classes.to(torch.uint32), "pictures": pictures, "verdicts": verdicts}
        save_file(weights | prefixed("discriminator", judge) | given, HERE / f"{name}.safetensors")
