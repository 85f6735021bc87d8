"""Why LACLIP as its figure shows it loses to the whole picture's vector on the motif collection, and where it wins.

    OMP_NUM_THREADS=1 python benchmarks/pipeline/laclip_ablation.py
    OMP_NUM_THREADS=1 python benchmarks/pipeline/laclip_ablation.py chosen tested    # these parts again

reproduced  recipes global and laclip on the test split, as shipped.
scores      length of the sum, weights, share of the global term, number of crops; validation split.
scales      crops of one size each: what agreement of crop and whole does to the sum's length, and what is gained.
texts       the shipped encoder, asked for motifs instead of whole pictures: every text is the phrase of a detail.
chosen      settings of recipe laclip-plus: of a grid on the validation split, what gains most over global in the
            direction that gains less (the mean of both would weigh image-to-text, where all gain more).
tested      recipes laclip and laclip-plus against global on the test split.
encoders    the shipped encoder, trained on for a short while with whole pictures, with random crops under the whole
            picture's caption, or with details under their own phrases: the same pictures, steps and rate.

Parts reproduced and tested look at the test split, all others at validation artworks alone. A test compares per query,
artworks flipped as a whole, with a query's mean over the seeds. Parts that are done are kept in --work, so a killed run
goes on; the result goes to benchmarks/results/laclip-ablation.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

import torch

from heritage_align.bench.goals import judged_value
from heritage_align.bench.machine import commit, machine_facts
from heritage_align.config import Config, load_config
from heritage_align.data.motifs import Motifs
from heritage_align.document import parse_yaml
from heritage_align.evaluation.comparison import evaluate_each
from heritage_align.evaluation.metrics import EvaluationResult, evaluate_scores
from heritage_align.evaluation.results import paired_record
from heritage_align.evaluation.significance import compare_means
from heritage_align.evaluation.systems import EncodedDataset
from heritage_align.pipeline import Pipeline
from heritage_align.protocols import Dataset
from heritage_align.recipes import recipe_text
from heritage_align.training.run import TRAINED, run_training
from heritage_align.types import GoldenPair, TextItem

if TYPE_CHECKING:
    from PIL.Image import Image

RESULT = Path(__file__).parents[1] / "results" / "laclip-ablation.json"
SCALES = ((0.1, 0.3), (0.3, 0.5), (0.5, 0.7), (0.7, 0.9), (0.9, 1.0))
UNIT = {"similarity.renormalise": True}
COMMON = 10
"""A phrase that more pictures show than this is no text of part `texts`: any order finds one of them."""
TRAINED_ON = ("wholes", "crops", "details")

Changes = dict[str, Any]
Facts = dict[str, float]


@dataclass
class System:
    """One row: a recipe with changes, what it recalled at each seed, and how its crops agree with the whole."""

    name: str
    recipe: str = "laclip"
    changes: Changes = field(default_factory=dict)
    results: list[EvaluationResult] = field(default_factory=list)
    agreements: list[Facts] = field(default_factory=list)

    def config(self, encoder: Changes) -> Config:
        settings = {"runtime.device": "cpu", **encoder, **self.changes}
        return load_config(
            parse_yaml(recipe_text(self.recipe), self.recipe),
            [f"{key}={json.dumps(value)}" for key, value in settings.items()],
            label=self.recipe,
        )

    def record(self) -> dict[str, Any]:
        """Return means and deviations over the seeds, JSON-ready."""
        row: dict[str, Any] = {"system": self.name, "recipe": self.recipe, "changes": self.changes}
        for name in self.results[0].directions:
            directions = [result.directions[name] for result in self.results]
            row[name] = {f"R@{k}": _spread([d.recall[k] for d in directions]) for k in directions[0].ks}
            row[name]["mean_recall"] = _spread([d.mean_recall for d in directions])
        row["mean_recall"] = _spread([result.mean_recall for result in self.results])
        if self.agreements:
            row["crops"] = {key: fmean(facts[key] for facts in self.agreements) for key in self.agreements[0]}
        return row


class Phrases:
    """The pictures of a motif collection, each text the phrase of a motif that at most `COMMON` of them show.

    Attributes:
        artwork_of: picture -> artwork, and text -> the motif that it names: both languages' phrases are one.
    """

    def __init__(self, whole: Motifs) -> None:
        self.name, self.image_ids, self._whole = f"{whole.name}/phrases", whole.image_ids, whole
        self.artwork_of = dict(whole.artwork_of)
        shown: dict[str, dict[str, None]] = {}
        for pair in whole.golden:
            if pair.box[2] - pair.box[0] < whole.size:  # the ground fills the picture: no detail
                for phrase in pair.phrases:
                    shown.setdefault(phrase, {})[pair.image_id] = None
                    self.artwork_of[phrase] = pair.phrases[0]
        self.texts = tuple(TextItem(p, p, tuple(ids)) for p, ids in shown.items() if len(ids) <= COMMON)
        self.golden: tuple[GoldenPair, ...] = ()

    def load_image(self, image_id: str) -> Image:
        return self._whole.load_image(image_id)


def main() -> None:
    """Run the parts that are asked for or missing, print their tables, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("again", nargs="*", choices=[[], *PARTS], help="parts to measure again")
    parser.add_argument("--artworks", type=int, default=50, help="of parts on the validation split; 4 pictures each")
    parser.add_argument("--many-artworks", type=int, default=125, help="of the parts chosen and tested")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--train-artworks", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("runs/laclip-ablation"))
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    parts = {}
    for name, part in PARTS.items():
        kept = options.work / f"{name}.json"
        if name in options.again or not kept.exists():
            begin = time.perf_counter()
            done = {"commit": commit(), **part(options), "seconds": time.perf_counter() - begin}
            kept.write_text(json.dumps(done, ensure_ascii=False), encoding="utf-8")
        parts[name] = json.loads(kept.read_text(encoding="utf-8"))
    document = {
        "command": "python benchmarks/pipeline/laclip_ablation.py",
        "settings": {k: v for k, v in vars(options).items() if k not in ("work", "out", "again")},
        "commit": parts["tested"]["commit"],
        "machine": machine_facts(torch.device("cpu")),
        "measured": time.strftime("%Y-%m-%d"),
        "goals": [_goal(parts["tested"])],
        "parts": parts,
    }
    options.out.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {options.out}")


def reproduced(options: argparse.Namespace) -> dict[str, Any]:
    return _measured([_whole(), System("laclip")], _motifs("test", options.artworks), seeds=1)


def scores(options: argparse.Namespace) -> dict[str, Any]:
    systems = [_whole(), System("laclip")]
    systems += [System(f"{way} weights", changes={"similarity.weights": way}) for way in ("uniform", "normalised")]
    systems += [System("unit length", changes=UNIT)]
    systems += [System(f"unit length, {way}", changes={**UNIT, **_weights(way)}) for way in ("uniform", "softmax")]
    systems += [System(f"unit length, global term {m}", changes={**UNIT, **_mix(m)}) for m in (0.3, 0.5, 0.7)]
    systems += [System("global term 0.5, length as it is", changes=_mix(0.5))]
    systems += [System(f"unit length, {k} crops", changes={**UNIT, "proposer.count": k}) for k in (5, 60)]
    return _measured(systems, _motifs("val", options.artworks), options.seeds)


def scales(options: argparse.Namespace) -> dict[str, Any]:
    return _measured([_whole(), *_by_scale(SCALES)], _motifs("val", options.artworks), options.seeds)


def texts(options: argparse.Namespace) -> dict[str, Any]:
    dataset = Phrases(_motifs("val", options.many_artworks))
    systems = [_whole(), *_by_scale([(0.1, 0.9), (0.1, 0.3), (0.3, 0.5)])]
    return _measured(systems, dataset, seeds=1)


def encoders(options: argparse.Namespace) -> dict[str, Any]:
    dataset = _motifs("val", options.artworks)
    found = {}
    for name in ("shipped", *TRAINED_ON):
        encoder = {} if name == "shipped" else {"encoder.model": str(_trained(name, options))}
        systems = [_whole(), System("laclip"), System("unit length", changes=UNIT)]
        print(f"-- encoder: {name}")
        found[name] = _measured(systems, dataset, options.seeds, encoder)
    return {"encoders": found}


def chosen(options: argparse.Namespace) -> dict[str, Any]:
    systems, ways, shares = [_whole()], ("raw", "uniform", "softmax"), (0.3, 0.5, 0.7)
    for scale, way, mix in product(((0.1, 0.9), (0.3, 0.9), (0.5, 0.9)), ways, shares):
        changes = {"proposer.scale": list(scale), **UNIT, **_weights(way), **_mix(mix)}
        systems.append(System(f"{scale[0]} to {scale[1]}, {way}, {mix}", changes=changes))
    done = _measured(systems, _motifs("val", options.many_artworks), seeds=1)
    best = choice(done["systems"][1:])
    print(f"chosen: {best['system']}")
    return {**done, "chosen": best["changes"]}


def choice(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the row that gains most over global in the direction that gains less."""
    return max(
        rows, key=lambda row: min(found["mean_recall"]["difference"] for found in row["against_global"].values())
    )


def tested(options: argparse.Namespace) -> dict[str, Any]:
    plus = System("laclip-plus", recipe="laclip-plus").config({})
    found = System("chosen", changes=json.loads((options.work / "chosen.json").read_text(encoding="utf-8"))["chosen"])
    wanted = found.config({})
    for part in ("proposer", "similarity"):
        if getattr(plus, part) != getattr(wanted, part):
            raise SystemExit(f"recipe laclip-plus has {part} {getattr(plus, part).as_dict()}, chosen was "
                             f"{getattr(wanted, part).as_dict()}: change the recipe first")  # fmt: skip
    systems = [_whole(), System("laclip"), System("laclip-plus", recipe="laclip-plus")]
    return _measured(systems, _motifs("test", options.many_artworks), options.seeds)


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "reproduced": reproduced, "scores": scores, "scales": scales, "texts": texts, "chosen": chosen, "tested": tested,
    "encoders": encoders,
}  # fmt: skip


def _whole() -> System:
    return System("global", recipe="global")


def _weights(way: str) -> Changes:
    return {"similarity.weights": way, **({"similarity.temperature": 0.0183} if way == "softmax" else {})}


def _mix(share: float) -> Changes:
    return {"similarity.global_mix": share}


def _by_scale(scales: Sequence[tuple[float, float]]) -> list[System]:
    """Return, for crops of each size, the figure's score, the same of unit length, and that with a global term."""
    forms: dict[str, Changes] = {"": {}, ", unit length": UNIT, ", unit length, global term 0.5": {**UNIT, **_mix(0.5)}}
    return [
        System(f"{low} to {high}{form}", changes={"proposer.scale": [low, high], **changes})
        for low, high in scales
        for form, changes in forms.items()
    ]


def _motifs(split: Any, number: int) -> Motifs:
    return Motifs(split, artworks=number)


def _measured(
    systems: Sequence[System], dataset: Dataset, seeds: int, encoder: Changes | None = None
) -> dict[str, Any]:
    """Evaluate systems, the first being the baseline, at every seed; pictures are encoded once a set of crops."""
    first = Pipeline(systems[0].config(encoder or {}))
    models = (first.encoder, first.text_encoder)
    pipelines = [first, *(Pipeline(system.config(encoder or {}), models=models) for system in systems[1:])]
    for seed in range(seeds):
        evaluated = evaluate_each([pipeline.at_seed(seed) for pipeline in pipelines], dataset)
        for system, (_, encoded, evaluation, _) in zip(systems, evaluated):
            system.results.append(evaluation.result)
            if encoded.images.regions is not None:
                system.agreements.append(_agreement(encoded))
    of: dict[str, str] = dataset.artwork_of  # type: ignore[attr-defined]
    groups = {**{item.id: of[item.image_ids[0]] for item in dataset.texts}, **of}
    rows = [systems[0].record()]
    for system in systems[1:]:
        tests = compare_means(systems[0].results, system.results, groups=groups)
        against = {way: {key: paired_record(test) for key, test in found.items()} for way, found in tests.items()}
        rows.append({**system.record(), "against_global": against})
    for row in rows:
        print(_line(row), flush=True)
    return {
        "dataset": dataset.name,
        "images": len(dataset.image_ids),
        "texts": len(dataset.texts),
        "seeds": seeds,
        "systems": rows,
    }


def _agreement(encoded: EncodedDataset) -> Facts:
    """Return how the crops of a picture agree with the whole, and what one crop alone finds.

    ``cosine``: mean of c_j = <u_I, u_j>; ``within``, ``between``: its standard deviation among the crops of a picture,
    and of pictures' means; ``length_spread``: standard deviation of the length of sum_j c_j u_j over its mean;
    ``crop_i2t_r1``: percentage of crops whose nearest text is one of the picture's.
    """
    images = encoded.images
    assert images.regions is not None
    rows = images.regions.values.float().view(len(images), -1, images.regions.dim)
    cosines = (rows @ images.global_features[:, :, None].float()).squeeze(2)
    length = (cosines[:, :, None] * rows).sum(1).norm(dim=1)
    single = evaluate_scores(rows[:, 0] @ encoded.texts.global_features.float().T, images.ids, encoded.items).i2t
    assert single is not None
    return {
        "cosine": cosines.mean().item(),
        "within": cosines.std(1).mean().item(),
        "between": cosines.mean(1).std().item(),
        "length_spread": (length.std() / length.mean()).item(),
        "crop_i2t_r1": single.recall[1],
    }


def _trained(name: str, options: argparse.Namespace) -> Path:
    """Train the shipped encoder on for a short while; return its weights."""
    folder = options.work / f"encoder-{name}"
    document = parse_yaml(recipe_text("cra"), "cra")
    data: dict[str, Any] = {"name": "motifs", "split": "train", "artworks": options.train_artworks, "variants": 2}
    if name == "details":
        data = {"name": "details", "of": data, "each": 1, "ground": 0.3}
    document["train"] = {
        "name": "contrastive", "data": data, "epochs": options.epochs, "learning_rate": options.learning_rate,
        "captions": "one", "positives": "known", "batch_size": 128, "warmup": 10, "clip_gradient": 1.0,
    }  # fmt: skip
    if name == "crops":
        changes = {"scale": [0.05, 0.7], "aspect": [1, 1], "flip": 0, "auto_augment": False}
        document["train"]["augmentation"] = changes
    document["runtime"] = {"device": "cpu", "seed": 0}
    run_training(load_config(document), folder, quiet=True)
    model = load_config(folder / TRAINED).encoder.as_dict()["model"]
    return Path(model)


def _goal(part: dict[str, Any]) -> dict[str, Any]:
    """Judge laclip-plus on the test split: above global, in mean recall of text-to-image search."""
    (row,) = (row for row in part["systems"] if row["system"] == "laclip-plus")
    test = row["against_global"]["t2i"]["mean_recall"]
    # Where the difference is not above 0 every p is a miss.
    p_value = test["p_value"] if test["difference"] > 0 else 1.0
    text = "laclip-plus above global, text-to-image mean recall, test split: p"
    return judged_value(text, p_value, 0.05, 0.005, at_least=False, commit=commit(), difference=test["difference"])


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    return {"mean": fmean(values), "std": stdev(values) if len(values) > 1 else None}


def _line(row: dict[str, Any]) -> str:
    parts = [f"{row['system']:36}"]
    for way in ("t2i", "i2t"):
        recalls = [f"{row[way][key]['mean']:.1f}" for key in ("R@1", "R@5", "R@10")]
        parts.append(f"{way} {' / '.join(recalls)}")
        if "against_global" in row:
            test = row["against_global"][way]["mean_recall"]
            parts.append(f"({test['difference']:+.1f}, p {test['p_value']:.3f})")
    parts.append(f"MR {row['mean_recall']['mean']:.1f}")
    return " ".join(parts)


if __name__ == "__main__":
    main()
