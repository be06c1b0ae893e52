"""Triton's own client runs the text encoder. Usage: open_inference.py ADDRESS"""

import sys

import numpy as np
from tritonclient import grpc
from tritonclient.utils import InferenceServerException

client = grpc.InferenceServerClient(sys.argv[1])
assert client.is_server_live() and client.is_server_ready()
assert client.is_model_ready("minilm") and client.is_model_ready("minilm", "1")
assert not client.is_model_ready("minilm", "7") and not client.is_model_ready("other")
metadata = client.get_model_metadata("minilm")
assert [tensor.name for tensor in metadata.inputs] == ["text"], metadata
assert list(metadata.outputs[0].shape) == [-1, 384], metadata


def embed(texts, name="minilm"):
    values = np.array([text.encode() for text in texts], dtype=np.object_)
    tensor = grpc.InferInput("text", list(values.shape), "BYTES")
    tensor.set_data_from_numpy(values)
    return client.infer(name, [tensor]).as_numpy("embedding")


milk, same, yoghurt, lamp = embed(["whole milk", "whole milk", "yoghurt", "a lamp for the desk"])
assert milk.dtype == np.float32 and milk.shape == (384,)
assert np.allclose(np.linalg.norm(milk), 1, atol=1e-5)
assert np.allclose(milk, same, atol=1e-6)
assert milk @ yoghurt > milk @ lamp + 0.1, (milk @ yoghurt, milk @ lamp)
assert embed([f"text {n}" for n in range(100)]).shape == (100, 384)

try:
    embed(["whole milk"], "other")
    raise AssertionError("a model that is not there ran")
except InferenceServerException as error:
    assert error.status() == "StatusCode.NOT_FOUND" and "minilm" in error.message(), error
