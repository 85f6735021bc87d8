"""Train the small encoder that is shipped; README.md says how, with what and how well."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import torch
from batches import Batches, Pictures
from heritage_align_plugins.cn_clip.architecture import (
    MOTIF_SMALL,
    MOTIF_SMALL_FILE,
    Architecture,
    build_model,
)
from heritage_align_plugins.cn_clip.checkpoint import save_checkpoint
from heritage_align_plugins.cn_clip.preprocess import MEAN, STD
from objective import MAX_LOGIT_SCALE, Words, losses
from torch import Tensor

# 5.7 million parameters, nearly half of them the 21,128 words of the vocabulary that cn_clip's tokeniser has.
ARCHITECTURE = Architecture(
    name=MOTIF_SMALL,
    embed_dim=128,
    image_resolution=96,
    vision_layers=5,
    vision_width=192,
    vision_patch_size=16,
    text_hidden_size=128,
    text_num_hidden_layers=3,
    text_num_attention_heads=4,
    text_intermediate_size=512,
    text_max_position_embeddings=64,
    text_hidden_dropout_prob=0.0,
    text_attention_probs_dropout_prob=0.0,
    # BERT's 0.02 is made for 768 dimensions: here it leaves all phrases at cosines of 0.9998, and shapes unlearned.
    text_initializer_range=0.1,
)


def arguments() -> argparse.Namespace:
    """Read the command line; the defaults are those of the shipped weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=MOTIF_SMALL_FILE, help="weights file to write")
    work = Path(tempfile.gettempdir()) / "motif_encoder"
    parser.add_argument("--work", type=Path, default=work, help="pictures (1.2 GB), checkpoints, log")
    parser.add_argument("--steps", type=int, default=1400)
    parser.add_argument("--batch", type=int, default=48, help="pictures a step")
    parser.add_argument("--details", type=int, default=80, help="details a step")
    parser.add_argument("--artworks", type=int, default=3000, help="training designs, two pictures each")
    parser.add_argument("--rate", type=float, default=1e-3, help="learning rate of AdamW")
    parser.add_argument("--warmup", type=int, default=50, help="steps")
    parser.add_argument("--cooldown", type=float, default=0.6, help="last share of the steps, linear to zero")
    parser.add_argument("--tight", type=float, default=0.25, help="share of the steps with tight details")
    parser.add_argument("--loose", type=float, default=0.6, help="share after which they are fully loose")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) // 2))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--save-every", type=int, default=100, help="steps between checkpoints")
    return parser.parse_args()


def rate_at(step: int, args: argparse.Namespace) -> float:
    """Return the learning rate: linear warm-up, constant, linear cool-down."""
    left = (args.steps - step) / (args.steps * args.cooldown)
    return float(args.rate * min(1.0, (step + 1) / args.warmup, left))


def spread_at(step: int, args: argparse.Namespace) -> float:
    """Return how loosely details are cut, 0..1.

    Of motifs in the middle of tight squares a ViT learns the shapes within 150 steps; of motifs anywhere in squares
    of many sizes it had learned colours and no shapes after 600.
    """
    share = (step / args.steps - args.tight) / (args.loose - args.tight)
    return float(min(1.0, max(0.0, share)))


def optimizer_for(model: torch.nn.Module, rate: float) -> torch.optim.AdamW:
    """Return AdamW with weight decay on matrices alone, embeddings left out.

    The logit scale, a logarithm that has to travel from 2.7 to 4, gets ten times the rate.
    """
    decayed, plain, scale = [], [], []
    for name, parameter in model.named_parameters():
        matrix = parameter.ndim >= 2 and "embedding" not in name
        (scale if name == "logit_scale" else decayed if matrix else plain).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": 0.05, "factor": 1.0},
        {"params": plain, "weight_decay": 0.0, "factor": 1.0},
        {"params": scale, "weight_decay": 0.0, "factor": 10.0},
    ]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), foreach=True)


def normalised(pixels: Tensor) -> Tensor:
    """Turn ``(n, side, side, 3)`` uint8 into ``(n, 3, side, side)`` as the encoder's `prepare` does."""
    mean, std = (torch.tensor(v, device=pixels.device) for v in (MEAN, STD))
    return ((pixels / 255.0 - mean) / std).permute(0, 3, 1, 2).contiguous()


def main() -> None:
    """Draw, train, save; a run that was killed goes on from its last checkpoint."""
    args = arguments()
    args.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    began = time.perf_counter()
    pictures = Pictures(args.artworks, 2, 256, args.seed, args.work)
    grid = ARCHITECTURE.image_resolution // (ARCHITECTURE.vision_patch_size or 1)
    batches = Batches(pictures, args.batch, args.details, ARCHITECTURE.image_resolution, grid, args.seed)
    print(f"{len(pictures.designs)} pictures ready after {time.perf_counter() - began:.0f} s", flush=True)

    model = build_model(ARCHITECTURE).to(args.device).train()
    optimizer = optimizer_for(model, args.rate)
    words = Words(ARCHITECTURE.context_length)
    checkpoint = args.work / "checkpoint.pt"
    start, spent = 0, 0.0
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=args.device, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        start, spent = saved["step"], saved["seconds"]
    began = time.perf_counter() - spent
    log = (args.work / "log.jsonl").open("a", encoding="utf-8")
    for step in range(start, args.steps):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, args) * group["factor"]
        views = batches.batch(step, spread_at(step, args))
        pixels = normalised(torch.from_numpy(views.pixels).to(args.device))
        with torch.autocast(torch.device(args.device).type, torch.bfloat16):
            loss = losses(model, pixels, views, words)
        optimizer.zero_grad()
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=MAX_LOGIT_SCALE)
        if step % 20 == 0 or step + 1 == args.steps:
            parts = {k: round(getattr(loss, k).item(), 4) for k in ("pictures", "details", "motifs", "patches")}
            seconds = round(time.perf_counter() - began, 1)
            record = {
                "step": step,
                "seconds": seconds,
                "scale": round(model.logit_scale.exp().item(), 2),
                **parts,
            }
            print(json.dumps(record), file=log, flush=True)
        if (step + 1) % args.save_every == 0 or step + 1 == args.steps:
            draft = checkpoint.with_suffix(".draft")
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            torch.save({**state, "seconds": time.perf_counter() - began}, draft)
            draft.replace(checkpoint)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(model, ARCHITECTURE, args.out)
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB after {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
