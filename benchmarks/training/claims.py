"""What the papers claim of fine-tuned Chinese-CLIP, tested on the motif collection with seeds and paired tests.

    python benchmarks/training/claims.py

The shipped encoder knows a visitor's words; the collection here is described in a catalogue's (domain specialist),
which it has not been trained on. For every seed three systems start from it, at the same number of pairs seen:

CE-CLIP   two stages, the text encoder first, then both (recipe ce-clip): mean recall above zero-shot?
CRA       locked-image tuning, the text encoder alone (recipe cra): R@20 of text-to-image above zero-shot? against full?
full      both encoders from the start
LACLIP    random crops on top of each tuned model, global against laclip: text-to-image up? image-to-text as it is

A test compares per query, pictures of one artwork together (paired randomisation, two-sided). Recalls are percentages.
CL2CM's claim has a script of its own, cl2cm_noise.py. The result goes to benchmarks/results/claims.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from heritage_align.bench.machine import commit, machine_facts
from heritage_align.config import load_config
from heritage_align.document import parse_yaml
from heritage_align.evaluation.metrics import EvaluationResult
from heritage_align.evaluation.significance import compare
from heritage_align.evaluation.systems import encode_dataset, evaluate_system
from heritage_align.pipeline import Pipeline, build_dataset
from heritage_align.recipes import recipe_text
from heritage_align.training.run import TRAINED, run_training

RESULT = Path(__file__).parents[1] / "results" / "claims.json"
KS = (1, 5, 10, 20)
SHIPPED = {"name": "cn_clip", "model": "motif-small"}


def main() -> None:
    """Train, evaluate, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--train-artworks", type=int, default=120)
    parser.add_argument("--test-artworks", type=int, default=40)
    parser.add_argument("--crops", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("runs/claims"))
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    systems: dict[str, list[EvaluationResult]] = {"zero-shot": [_evaluated(SHIPPED, options, None, 0)]}
    seconds: dict[str, list[float]] = {}
    for seed in range(options.seeds):
        for name, train in _trainings(options).items():
            folder = options.work / f"{name}-{seed}"
            begin = time.perf_counter()
            run_training(_training_config(train, options, seed), folder, quiet=True)
            seconds.setdefault(name, []).append(time.perf_counter() - begin)
            encoder = load_config(folder / TRAINED).encoder.as_dict()
            systems.setdefault(name, []).append(_evaluated(encoder, options, None, seed))
            systems.setdefault(f"{name} + laclip", []).append(_evaluated(encoder, options, "laclip", seed))
            print(f"seed {seed} {name:8} {_line([systems[name][-1]])}", flush=True)
    systems["zero-shot + laclip"] = [_evaluated(SHIPPED, options, "laclip", s) for s in range(options.seeds)]
    _report(options, systems, seconds)


def _trainings(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    first = options.epochs // 3
    stages = {
        "ce-clip": [{"epochs": first, "freeze": "vision"}, {"epochs": options.epochs - first}],
        "cra": [{"epochs": options.epochs, "freeze": "vision"}],
        "full": [{"epochs": options.epochs}],
    }
    return {name: {"stages": listed} for name, listed in stages.items()}


def _data(split: str, artworks: int) -> dict[str, Any]:
    return {"name": "motifs", "split": split, "artworks": artworks, "language": "zh", "domain": "specialist"}


def _training_config(train: dict[str, Any], options: argparse.Namespace, seed: int) -> Any:
    document = parse_yaml(recipe_text("cra"), "cra")
    settings = document["train"]
    settings |= {"data": _data("train", options.train_artworks), "validation": _data("val", 20), "batch_size": 64}
    settings |= {"warmup": 5, "validate_every": options.epochs, **train}
    document["data"] = _data("test", options.test_artworks)
    document["runtime"] = {"seed": seed, "device": "cpu"}
    return load_config(document)


def _evaluated(encoder: dict[str, Any], options: argparse.Namespace, score: str | None, seed: int) -> EvaluationResult:
    document: dict[str, Any] = {
        "version": 1,
        "name": score or "global",
        "encoder": encoder,
        "similarity": {"name": "global"},
        "data": _data("test", options.test_artworks),
        "runtime": {"seed": seed, "device": "cpu"},
    }
    if score == "laclip":
        document["proposer"] = {"name": "random_crops", "count": options.crops}
        document["similarity"] = {"name": "laclip", "conditioning": "image", "weights": "raw"}
    pipeline = Pipeline(load_config(document))
    return evaluate_system(pipeline, encode_dataset(pipeline, pipeline.dataset()), KS).result


def _tests(one: list[EvaluationResult], other: list[EvaluationResult], groups: dict[str, str]) -> dict[str, Any]:
    """Test `other` against `one` seed by seed; a single result stands for every seed."""
    pairs = list(zip(one * len(other) if len(one) == 1 else one, other))
    found: dict[str, Any] = {}
    for direction in ("t2i", "i2t"):
        for key in ("R@20", "mean_recall"):
            tests = [compare(a, b, groups=groups)[direction][key] for a, b in pairs]
            found[f"{direction} {key}"] = {
                "difference": statistics.fmean(t.difference for t in tests),
                "differences": [t.difference for t in tests],
                "p_values": [t.p_value for t in tests],
            }
    return found


def _report(
    options: argparse.Namespace, systems: dict[str, list[EvaluationResult]], seconds: dict[str, list[float]]
) -> None:
    document = {**parse_yaml(recipe_text("global"), "global"), "data": _data("test", options.test_artworks)}
    dataset = build_dataset(load_config(document))
    artwork_of: dict[str, str] = dataset.artwork_of  # type: ignore[attr-defined]
    groups = {**artwork_of, **{item.id: artwork_of[item.image_ids[0]] for item in dataset.texts}}
    claims = {
        "fine-tuning raises mean recall (CE-CLIP)": ("zero-shot", "ce-clip"),
        "locked-image tuning raises R@20 (CRA)": ("zero-shot", "cra"),
        "locked-image tuning beats full tuning (CRA)": ("full", "cra"),
        "two stages beat one (CE-CLIP)": ("full", "ce-clip"),
        "local crops raise text-to-image, untuned (LACLIP)": ("zero-shot", "zero-shot + laclip"),
        "local crops raise text-to-image, tuned (LACLIP)": ("ce-clip", "ce-clip + laclip"),
    }
    tests = {
        claim: {"pair": (one, other), **_tests(systems[one], systems[other], groups)}
        for claim, (one, other) in claims.items()
    }
    for name, results in systems.items():
        print(f"{name:22} {_line(results)}")
    for claim, found in tests.items():
        t2i, i2t, far = (found[key] for key in ("t2i mean_recall", "i2t mean_recall", "t2i R@20"))
        print(
            f"{claim}: t2i {t2i['difference']:+.1f} (p {_ps(t2i)}), i2t {i2t['difference']:+.1f} (p {_ps(i2t)}), "
            f"t2i R@20 {far['difference']:+.1f} (p {_ps(far)})"
        )
    result = {
        "command": "python benchmarks/training/claims.py",
        "settings": {k: v for k, v in vars(options).items() if k not in ("work", "out")},
        "commit": commit(),
        "machine": machine_facts(torch.device("cpu")),
        "measured": time.strftime("%Y-%m-%d"),
        "systems": {
            name: [{**result.asdict(), "mean_recall": result.mean_recall} for result in results]
            for name, results in systems.items()
        },
        "training_seconds": seconds,
        "claims": tests,
    }
    options.out.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {options.out}")


def _ps(test: dict[str, Any]) -> str:
    return ", ".join(f"{p:.3f}" for p in test["p_values"])


def _line(results: list[EvaluationResult]) -> str:
    parts = []
    for direction in ("t2i", "i2t"):
        for k in KS:
            values = [result.directions[direction].recall[k] for result in results]
            parts.append(_mean(values))
        parts.append("|")
    return " ".join([*parts, "MR", _mean([result.mean_recall for result in results])])


def _mean(values: list[float]) -> str:
    spread = f"±{statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{spread}"


if __name__ == "__main__":
    main()
