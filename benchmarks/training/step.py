"""A training step of trainer `contrastive` against cn_clip's own, side by side in one run.

    python benchmarks/training/step.py --model ViT-B-16 --batch 8

Both sides have the same weights, pictures, captions and batch. The other side is what cn_clip's ``train.py`` does in a
step: its model's forward pass on captions padded to 52 tokens, the symmetric cross-entropy, backward, AdamW with its
groups, the clamp of the temperature. With dropout off, loss and gradients must agree before anything is timed; the
timed steps have dropout as the models do. Rounds alternate in order; a ratio is taken within its round. Peak memory is
measured in a process of its own for each side, beyond what weights, gradients and the optimiser's state take. Cases:

full        both towers are trained
locked      vision is frozen (LiT); ours encodes a picture once for all epochs, cn_clip in every step
flip        half of the patches are left out (FLIP)
recomputed  both sides recompute their layers in the backward pass (gradient checkpointing)
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from contenders import CASES, SIDES, Inputs, Step, inputs_of
from heritage_align_plugins.cn_clip.architecture import OFFICIAL, Architecture, find_architecture
from torch import Tensor

from heritage_align.bench.machine import commit, machine_facts
from heritage_align.bench.timing import seconds, spread

RESULT = Path(__file__).parents[1] / "results" / "training-step-{device}.json"

# Largest difference of a gradient, of the largest number in its tensor or of a hundredth of the largest of all.
AGREE = {"fp32": 1e-3, "bf16": 0.5}


def check_parity(case: str, architecture: Architecture, inputs: Inputs, precision: str) -> dict[str, float]:
    """Compare loss and gradients without dropout; raises AssertionError where they differ by more than `AGREE`."""
    plain = replace(architecture, text_hidden_dropout_prob=0.0, text_attention_probs_dropout_prob=0.0)
    found: dict[str, tuple[float, dict[str, Tensor]]] = {}
    for side in SIDES:
        step = Step(side, case, plain, inputs, precision)
        torch.manual_seed(1)  # of FLIP's masks
        loss = step.gradient(inputs)
        found[side] = loss, {name: p.grad for name, p in step.model.named_parameters() if p.grad is not None}
    (our_loss, ours), (their_loss, theirs) = found["ours"], found["cn_clip"]
    if set(ours) != set(theirs):
        raise AssertionError(f"{case}: other parameters are trained: {sorted(set(ours) ^ set(theirs))[:3]}")
    floor = max(float(g.abs().max()) for g in theirs.values()) / 100
    worst = max(float((ours[name] - g).abs().max()) / max(float(g.abs().max()), floor) for name, g in theirs.items())
    if not worst < AGREE[precision] or abs(our_loss - their_loss) > AGREE[precision]:
        raise AssertionError(f"{case}: loss {our_loss} and {their_loss}, gradients differ by {worst:.1e} of their size")
    return {"loss_difference": abs(our_loss - their_loss), "gradient_difference": worst}


def measure_time(
    case: str, architecture: Architecture, inputs: Inputs, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Time both sides in alternating order, after a step that is not counted."""
    steps = {side: Step(side, case, architecture, inputs, arguments.precision) for side in SIDES}
    for step in steps.values():
        step()
    taken: dict[str, list[float]] = {side: [] for side in SIDES}
    for number in range(arguments.rounds):
        for side in SIDES if number % 2 else SIDES[::-1]:
            taken[side].append(seconds(steps[side]))
    return {
        "ours_pairs_per_second": spread([arguments.batch / t for t in taken["ours"]]),
        "cn_clip_pairs_per_second": spread([arguments.batch / t for t in taken["cn_clip"]]),
        "throughput_ratio": spread([theirs / ours for theirs, ours in zip(taken["cn_clip"], taken["ours"])]),
    }


def peak_of(side: str, case: str, arguments: argparse.Namespace) -> int:
    """Return the bytes that a step takes at its peak beyond what is there between steps, in this process."""
    architecture = find_architecture(arguments.model)
    inputs = inputs_of(architecture, arguments.batch, arguments.device)
    step = Step(side, case, architecture, inputs, arguments.precision)
    step(inputs_of(architecture, 2, arguments.device))  # gradients and the optimiser's state are there from now on
    if arguments.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back to VmRSS
    step()
    return _resident("VmHWM") - before


def _resident(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(key)))


def measure_memory(case: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Run each side in a process of its own."""
    peaks = {}
    for side in SIDES:
        given = ("model", "batch", "device", "precision", "threads")
        options = [f"--{name}={getattr(arguments, name)}" for name in given if getattr(arguments, name) is not None]
        command = [sys.executable, __file__, *options, "--peak", side, case]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks[side] = int(done.stdout.split()[-1])
    ratio = peaks["ours"] / peaks["cn_clip"]
    return {"ours_peak_bytes": peaks["ours"], "cn_clip_peak_bytes": peaks["cn_clip"], "memory_ratio": ratio}


def main() -> None:
    """Run every case, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-16", help=f"{', '.join(OFFICIAL)}, motif-small or a file")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=list(AGREE), default="fp32")
    parser.add_argument("--threads", type=int, help="of torch on the CPU; all cores by default")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--peak", nargs=2, metavar=("SIDE", "CASE"), help="print one side's peak memory and end")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.peak:
        print(peak_of(*arguments.peak, arguments))
        return
    architecture = find_architecture(arguments.model)
    inputs = inputs_of(architecture, arguments.batch, arguments.device)
    settings = {name: value for name, value in vars(arguments).items() if name not in ("output", "peak")}
    machine = machine_facts(torch.device(arguments.device))  # with the load before the run
    results = {}
    print(
        f"{'case':<12}{'ours/s':>9}{'cn_clip/s':>11}{'ratio p20':>11}{'p50':>7}{'p80':>7}{'memory':>8}{'gradients':>11}"
    )
    for case in arguments.cases:
        row: dict[str, Any] = check_parity(case, architecture, inputs, arguments.precision)
        row |= measure_time(case, architecture, inputs, arguments)
        row |= measure_memory(case, arguments)
        results[case] = row
        ours, theirs, ratio = row["ours_pairs_per_second"], row["cn_clip_pairs_per_second"], row["throughput_ratio"]
        print(
            f"{case:<12}{ours['p50']:>9.2f}{theirs['p50']:>11.2f}{ratio['p20']:>11.2f}{ratio['p50']:>7.2f}"
            f"{ratio['p80']:>7.2f}{row['memory_ratio']:>8.2f}{row['gradient_difference']:>11.1e}",
            flush=True,
        )
    kind = "cuda" if arguments.device.startswith("cuda") else "cpu"
    output = arguments.output or Path(str(RESULT).format(device=kind))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(
        json.dumps({"commit": commit(), "machine": machine, "settings": settings, "results": results}, indent=2) + "\n"
    )
    print(f"written to {output}")


if __name__ == "__main__":
    main()
