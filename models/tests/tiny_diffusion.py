#!/usr/bin/env python3
"""Makes a tiny Stable Diffusion pipeline of random weights, and records what diffusers computes with it, stage by stage.

    pip install diffusers transformers torch safetensors
    python3 tiny_diffusion.py FOLDER [SEED] [--like-1 | --like-2]

FOLDER gets what `StableDiffusionPipeline.save_pretrained` leaves (weights in f16, as checkpoints often have them), and
golden.safetensors: the tokens, what the text encoder makes of them, one prediction of the U-Net with classifier-free
guidance, the latents after the whole loop of DDIM, and the picture. All of it is computed in f32 on the CPU. `--like-2`
makes it as Stable Diffusion 2 is: another activation, padding, projection, prediction and spacing of steps.
"""

import argparse
import json
import pathlib

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

arguments = argparse.ArgumentParser()
arguments.add_argument("folder", type=pathlib.Path)
arguments.add_argument("seed", type=int, nargs="?", default=7)
like = arguments.add_mutually_exclusive_group()
like.add_argument("--like-1", action="store_true")
like.add_argument("--like-2", action="store_true")
arguments = arguments.parse_args()
folder, like_2 = arguments.folder, arguments.like_2
folder.mkdir(parents=True, exist_ok=True)
torch.manual_seed(arguments.seed)
# It is too little work to share.
torch.set_num_threads(1)

PROMPT = "A Blue dress, it's 100% linen; caf\u00e9 \u4e2d"
NEGATIVE = "blurred photo"
TEXTS = ["a blue dress of linen", "a photo of a red shoe", "blurred photo of the dress", "white linen trousers and a coat"]
STEPS, GUIDANCE = 3, 7.5
LENGTH = 77


def tokenizer_files(into):
    """CLIP's: bytes with and without `</w>`, merges, and two tokens that begin and end a text."""
    into.mkdir(parents=True, exist_ok=True)
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=120, end_of_word_suffix="</w>", show_progress=False)
    words = [word for text in TEXTS for word in text.split()]
    trained.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trained.train_from_iterator(words, trainer)
    merges = [tuple(merge) for merge in json.loads(trained.to_str())["model"]["merges"]]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = letters + [letter + "</w>" for letter in letters]
    tokens += [left + right for left, right in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: at for at, token in enumerate(dict.fromkeys(tokens))}
    (into / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2"] + [" ".join(merge) for merge in merges]
    (into / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = {
        "add_prefix_space": False,
        "bos_token": "<|startoftext|>",
        "do_lower_case": True,
        "eos_token": "<|endoftext|>",
        "model_max_length": LENGTH,
        "pad_token": "!" if like_2 else "<|endoftext|>",
        "tokenizer_class": "CLIPTokenizer",
        "unk_token": "<|endoftext|>",
    }
    (into / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    return vocabulary


# The files are as those of real checkpoints; transformers would write others in their place.
vocabulary = tokenizer_files(folder / "tokenizer")
tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
begin, end = vocabulary["<|startoftext|>"], vocabulary["<|endoftext|>"]

text_encoder = CLIPTextModel(
    CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        hidden_act="gelu" if like_2 else "quick_gelu",
        bos_token_id=begin,
        eos_token_id=end,
        pad_token_id=vocabulary["!"] if like_2 else end,
    )
)
# The second has one block of each, as both are committed.
unet = UNet2DConditionModel(
    sample_size=8,
    block_out_channels=(32,) if like_2 else (32, 32),
    layers_per_block=1,
    down_block_types=("CrossAttnDownBlock2D",) if like_2 else ("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D",) if like_2 else ("UpBlock2D", "CrossAttnUpBlock2D"),
    cross_attention_dim=16,
    attention_head_dim=[2] if like_2 else 4,
    use_linear_projection=like_2,
)
vae = AutoencoderKL(
    block_out_channels=(32,) if like_2 else (32, 32),
    layers_per_block=1,
    down_block_types=("DownEncoderBlock2D",) * (1 if like_2 else 2),
    up_block_types=("UpDecoderBlock2D",) * (1 if like_2 else 2),
    sample_size=16,
)
scheduler = DDIMScheduler(
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    clip_sample=False,
    set_alpha_to_one=False,
    steps_offset=1,
    prediction_type="v_prediction" if like_2 else "epsilon",
    timestep_spacing="trailing" if like_2 else "leading",
    rescale_betas_zero_snr=like_2,
)


def spread(module):
    """Weights as large as learnt ones, so that every part is heard in what comes out; rounded to f16, as they are saved."""
    for name, weight in module.named_parameters():
        noise = torch.randn_like(weight)
        if weight.dim() > 1:
            noise = noise / weight[0].numel() ** 0.5
        elif name.endswith("weight"):
            noise = 1 + 0.2 * noise
        else:
            noise = 0.2 * noise
        weight.data = noise.half().float()


for module in (text_encoder, unet, vae):
    module.eval()
    spread(module)
pipe = StableDiffusionPipeline(
    vae=vae,
    text_encoder=text_encoder,
    tokenizer=tokenizer,
    unet=unet,
    scheduler=scheduler,
    safety_checker=None,
    feature_extractor=None,
    requires_safety_checker=False,
)
pipe.set_progress_bar_config(disable=True)


def ids(text):
    made = tokenizer(text, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt")
    return made.input_ids


with torch.no_grad():
    both = torch.cat([ids(NEGATIVE), ids(PROMPT)])
    hidden = text_encoder(both)[0]
    latents = torch.randn(1, 4, 8, 16 if like_2 else 12)
    scheduler.set_timesteps(STEPS)
    first = scheduler.timesteps[0]
    without, with_prompt = unet(torch.cat([latents] * 2), first, encoder_hidden_states=hidden).sample.chunk(2)
    guided = without + GUIDANCE * (with_prompt - without)
    asked = {
        "prompt": PROMPT,
        "negative_prompt": NEGATIVE,
        "num_inference_steps": STEPS,
        "guidance_scale": GUIDANCE,
        "width": latents.shape[3] * pipe.vae_scale_factor,
        "height": latents.shape[2] * pipe.vae_scale_factor,
        "latents": latents,
    }
    denoised = pipe(**asked, output_type="latent").images
    picture = pipe(**asked, output_type="pt").images

golden = {
    "prompt_ids": both[1].to(torch.int64),
    "negative_ids": both[0].to(torch.int64),
    "text_hidden": hidden,
    "steps_guidance": torch.tensor([STEPS, GUIDANCE]),
    "timesteps": scheduler.timesteps.to(torch.int64),
    "latents": latents,
    "guided": guided,
    "denoised": denoised,
    # [height, width, channels], from 0 to 1.
    "picture": picture[0].permute(1, 2, 0),
}
kept = {name: (folder / "tokenizer" / name).read_bytes() for name in ("vocab.json", "merges.txt", "tokenizer_config.json")}
pipe.to(torch.float16).save_pretrained(folder, safe_serialization=True)
for path in (folder / "tokenizer").iterdir():
    path.unlink()
for name, data in kept.items():
    (folder / "tokenizer" / name).write_bytes(data)
save_file({name: tensor.contiguous() for name, tensor in golden.items()}, folder / "golden.safetensors")
print(f"{len(vocabulary)} tokens, timesteps {scheduler.timesteps.tolist()}, latents {denoised.std():.3f}, picture {picture.std():.3f}")
