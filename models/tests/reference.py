#!/usr/bin/env python3
"""Makes what PyTorch computes for the texts in data/texts.json: the rows recorded with the recipe all-MiniLM-L6-v2.

    pip install torch transformers safetensors numpy
    python3 reference.py MODEL_DIR

torch needs the nvidia packages that pip brings with it even where there is no GPU: without them it cannot be imported.

MODEL_DIR holds sentence-transformers/all-MiniLM-L6-v2. The forward pass is transformers' BertModel in f32; pooling
and normalisation are written out here, from the model's card. Each text runs alone, so that no padding is involved.
Texts are truncated where tokenizer.json says, at 128 tokens.
"""

import json
import pathlib
import sys

import numpy as np
import tokenizers
import torch
import transformers
from safetensors.numpy import save_file

here = pathlib.Path(__file__).parent / "data"
recorded = pathlib.Path(__file__).parents[2] / "model-registry/src/pull/golden/all-MiniLM-L6-v2.safetensors"
model_dir = pathlib.Path(sys.argv[1])

tokenizer = tokenizers.Tokenizer.from_file(str(model_dir / "tokenizer.json"))
tokenizer.no_padding()
model = transformers.BertModel.from_pretrained(
    model_dir, attn_implementation="eager", dtype=torch.float32, add_pooling_layer=False
).eval()

texts = json.loads((here / "texts.json").read_text(encoding="utf-8"))
rows = [tokenizer.encode(text).ids for text in texts]
embeddings = []
with torch.no_grad():
    for row in rows:
        hidden = model(input_ids=torch.tensor([row])).last_hidden_state[0]
        embeddings.append(torch.nn.functional.normalize(hidden.mean(dim=0), dim=0).numpy())

save_file(
    {
        "ids": np.concatenate(rows).astype(np.uint32),
        "offsets": np.cumsum([0] + [len(row) for row in rows]).astype(np.uint32),
        "embeddings": np.stack(embeddings),
    },
    recorded,
    metadata={"model": "sentence-transformers/all-MiniLM-L6-v2", "torch": torch.__version__, "transformers": transformers.__version__},
)
print(f"{len(texts)} texts, {sum(map(len, rows))} tokens, {embeddings[0].shape[0]} dimensions")
