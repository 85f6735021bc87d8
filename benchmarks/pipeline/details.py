"""Search by a detail on the motif collection: does the motif's next picture come first?

    python benchmarks/pipeline/details.py

A query is a golden box cut out of a test picture. A right answer is a picture of another artwork that shows the same
motif, in any colour, or (``same colour``, over the details that have such an answer) in the same one; pictures of the
query's own artwork are left out. Systems differ in the regions of the store; ``whole pictures`` compares the cut-out
with whole pictures, the others with regions. ``as cut`` encodes the cut-out once, the others as
`Searcher.search_details` does. ``then keypoints`` ranks the best 50 of the windows by a last look
(``search.last: {name: keypoints, candidates: 50}``). Each system is tested against ``whole pictures`` on the same
details, whole artworks flipped together.

``seconds a query`` are medians, of windows alone and with the last look: at pictures most of which were looked at
before, and (ten details) at new ones.

``with a text`` looks for pictures that show a detail's motif and, besides, the motif that a phrase names; both are
asked of the same pictures, and details without an answer are left out. ``first stage`` is the share of the ten best
pictures of an exact search through all regions that are among the candidates, for queries of several parts.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from heritage_align.bench.goals import judged_value
from heritage_align.bench.machine import commit, machine_facts
from heritage_align.data import Motifs
from heritage_align.evaluation.significance import paired_randomisation
from heritage_align.indexing import build_index
from heritage_align.pipeline import Pipeline, dataset_sources
from heritage_align.recipes import load_recipe
from heritage_align.search import Detail, Searcher
from heritage_align.search.details import encode_details
from heritage_align.search.regions import RegionQuery, RegionSearch
from heritage_align.types import GoldenPair

RESULT = Path(__file__).parents[1] / "results" / "details.json"
WHOLE, CUT = "whole pictures", "windows of 1, 2, 3, as cut"
WINDOWS, LOOKED = "windows of 1, 2, 3", "windows of 1, 2, 3, then keypoints"
LAST = "search.last={name: keypoints, candidates: 50}"
NEW = "windows of 1, 2, 3, then keypoints of 50 new pictures"
SYSTEMS: dict[str, tuple[str, tuple[str, ...]]] = {
    WINDOWS: ("late-interaction", ()),
    "windows of 1 to 5": ("late-interaction", ("proposer.scales=[1,2,3,4,5]",)),
    "random crops": ("laclip", ()),
    "patches": ("late-interaction", ("proposer={name: patch_grid, mode: tokens}",)),
}
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
DEPTHS = (10, 20, 50, 100)

Hits = NDArray[np.float64]


@dataclass(frozen=True)
class Query:
    """A detail, the motif and colour that it shows, and a phrase of another motif, by language."""

    pair: GoldenPair
    motif: str
    colour: str
    other: str
    phrases: dict[str, str]


class Collection:
    """The test pictures, details drawn from them, and what is right."""

    def __init__(self, artworks: int, variants: int, details: int) -> None:
        self.data = Motifs("test", artworks=artworks, variants=variants)
        self.shown = {i: {(e.motif, e.colour) for e in d.elements} for i, d in self.data.designs.items()}
        generator = np.random.default_rng(0)
        named: dict[tuple[str, str], tuple[str, str]] = {}
        queries = []
        places: dict[str, int] = {}
        for pair in self.data.golden:  # a picture's ground, then every instance of its elements in their order
            place = places[pair.image_id] = places.get(pair.image_id, -1) + 1
            elements = [e for e in self.data.designs[pair.image_id].elements for _ in e.instances]
            if place == 0:
                continue
            element = elements[place - 1]
            named[element.motif, element.colour] = (pair.phrases[0], pair.phrases[1])
            queries.append((pair, element.motif, element.colour))
        kinds = sorted(named)
        chosen = generator.permutation(len(queries))[:details]
        self.queries = []
        for pair, motif, colour in (queries[number] for number in chosen):
            showing = [shown for image_id, shown in self.shown.items() if self._of(image_id) != self._of(pair.image_id)]
            together = [shown for shown in showing if motif in {name for name, _ in shown}]
            beside = sorted({element for shown in together for element in shown if element[0] != motif})
            other = beside[generator.integers(len(beside))] if beside else kinds[0]
            self.queries.append(Query(pair, motif, colour, other[0], dict(zip(("zh", "en"), named[other]))))

    def _of(self, image_id: str) -> str:
        return self.data.artwork_of[image_id]

    def details(self) -> list[Detail]:
        pictures = {q.pair.image_id: self.data.load_image(q.pair.image_id) for q in self.queries}
        return [Detail(pictures[q.pair.image_id], "detail", q.pair.box) for q in self.queries]

    def right(self, query: Query, image_id: str, *, colour: bool = False, other: bool = False) -> bool:
        motifs = {motif for motif, _ in self.shown[image_id]}
        found = (query.motif, query.colour) in self.shown[image_id] if colour else query.motif in motifs
        return found and (not other or query.other in motifs)

    def elsewhere(self, query: Query) -> list[str]:
        return [i for i in self.data.image_ids if self._of(i) != self._of(query.pair.image_id)]

    def share(self, **which: bool) -> Hits:
        """Return for each query the share of pictures of other artworks that are right: what chance finds first."""
        return np.array([np.mean([self.right(q, i, **which) for i in self.elsewhere(q)]) for q in self.queries])

    def first(self, answers: Sequence[Sequence[str]], **which: bool) -> Hits:
        """Return for each query whether its first answer from another artwork is right."""
        firsts = []
        for query, ids in zip(self.queries, answers):
            others = [i for i in ids if self._of(i) != self._of(query.pair.image_id)]
            firsts.append(float(self.right(query, others[0], **which)))
        return np.array(firsts)


def compared(base: Hits, hits: Hits, groups: Sequence[str] | None = None) -> dict[str, float]:
    """Return R@1 in per cent, and the paired test against another system on the same details."""
    test = paired_randomisation(base, hits, groups=groups)
    return {"R@1": 100 * float(hits.mean()), "difference": 100 * test.difference, "p": test.p_value}


def show(rows: dict[str, dict[str, float]]) -> None:
    """Print what `compared` gave of each system."""
    for name, row in rows.items():
        print(f"  {name:<34}{row['R@1']:>6.1f}{row['difference']:>+7.1f}  p {row['p']:.4f}", flush=True)


def write_report(
    output: Path, settings: dict[str, Any], results: dict[str, Any], judged: list[dict[str, Any]], state: str
) -> None:
    """Print the verdicts and write the JSON, with the machine as it is after the measurement."""
    report = {
        "commit": state,
        "machine": machine_facts(torch.device("cpu")),
        "load_average_after": list(os.getloadavg()),
        "settings": settings,
        "results": results,
        "goals": judged,
    }
    for goal in judged:
        print(f"{goal['goal']}: {goal['value']:.3f}, {goal['verdict']}")
    output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"written to {output}")


def measured(collection: Collection, answers: dict[str, list[list[str]]]) -> dict[str, Any]:
    """Return R@1 of every system, and its test against whole pictures."""
    groups = [collection.data.artwork_of[query.pair.image_id] for query in collection.queries]
    table: dict[str, Any] = {}
    for kind, which in (("same motif", {}), ("same colour", {"colour": True})):
        share = collection.share(**which)
        asked = share > 0
        labels = [group for group, there in zip(groups, asked) if there]
        base = collection.first(answers[WHOLE], **which)[asked]
        rows: dict[str, Any] = {}
        for name, ids in answers.items():
            hits = collection.first(ids, **which)[asked]
            rows[name] = compared(base, hits, labels)
        table[kind] = {"details": int(asked.sum()), "chance": 100 * share[asked].mean(), "systems": rows}
    return table


def with_text(collection: Collection, searcher: Searcher, details: Sequence[Detail], top_k: int) -> dict[str, Any]:
    """Return R@1 of details with a phrase, by language and weight of the text."""
    share = collection.share(other=True)
    asked = share > 0
    found: dict[str, Any] = {"details": int(asked.sum()), "chance": 100 * share[asked].mean()}
    for language in ("zh", "en"):
        found[language] = {}
        for weight in WEIGHTS:
            answers = [
                [h.id for h in searcher.search_details([d], text=q.phrases[language], weight=weight, top_k=top_k)]
                for d, q in zip(details, collection.queries)
            ]
            found[language][str(weight)] = 100 * collection.first(answers, other=True)[asked].mean()
    return found


def first_stage(collection: Collection, searcher: Searcher, details: Sequence[Detail], count: int) -> dict[str, Any]:
    """Return the share of the exact ten best that are candidates, by kind of query and depth."""
    among = RegionSearch(searcher.store, searcher.pipeline.index, searcher.pipeline.device)
    everything = torch.arange(len(searcher.store))
    vectors = encode_details(searcher.pipeline, details[: 2 * count])
    words = searcher.pipeline.text_encoder.encode_texts([q.phrases["zh"] for q in collection.queries[:count]])
    kinds: dict[str, list[RegionQuery]] = {"one detail": [], "two details": [], "a detail and a phrase": []}
    for number in range(count):
        one, next_one = vectors[number : number + 1], vectors[count + number : count + number + 1]
        kinds["one detail"].append(RegionQuery.of([("a", one, 1.0)]))
        kinds["two details"].append(RegionQuery.of([("ab", torch.cat([one, next_one]), 1.0)]))
        kinds["a detail and a phrase"].append(RegionQuery.of([("a", one, 0.5), ("b", words[number : number + 1], 0.5)]))
    table: dict[str, Any] = {"queries": count, "pictures": len(searcher.store)}
    for kind, queries in kinds.items():
        best = [among.score(query, everything).topk(10).indices for query in queries]
        table[kind] = {
            str(depth): float(
                np.mean([torch.isin(b, among.candidates(q, depth)).float().mean() for q, b in zip(queries, best)])
            )
            for depth in DEPTHS
        }
    return table


def answered(searcher: Searcher, details: Sequence[Detail], top_k: int) -> tuple[list[list[str]], float]:
    """Return the answers to every detail, and the median of the seconds that one takes."""
    answers, seconds = [], []
    for detail in details:
        start = time.perf_counter()
        answers.append([hit.id for hit in searcher.search_details([detail], top_k=top_k)])
        seconds.append(time.perf_counter() - start)
    return answers, float(np.median(seconds))


def goals(results: dict[str, Any], state: str) -> list[dict[str, Any]]:
    """Judge whether regions beat whole pictures, and the first stage at its default depth."""
    rows = results["same motif"]["systems"]
    recall = min(row["100"] for row in results["first stage"].values() if isinstance(row, dict))
    return [
        judged_value(goal, value, accept, stretch, at_least=kind == "at least", commit=state)
        for goal, kind, value, accept, stretch in (
            *(
                (f"the motif comes first: {what} whole pictures", kind, rows[system][key], accept, stretch)
                for words, system in (("windows", WINDOWS), ("windows and keypoints", LOOKED))
                for what, kind, key, accept, stretch in (
                    (f"p of {words} against", "at most", "p", 0.05, 0.01),
                    (f"points of {words} above", "at least", "difference", 3.0, 10.0),
                )
            ),
            ("first stage: share of the ten best among 100 candidates", "at least", recall, 0.99, 1.0),
        )
    ]


def main() -> None:
    """Build the stores, ask every detail of each, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artworks", type=int, default=125, help="of the built-in collection's test split")
    parser.add_argument("--variants", type=int, default=2, help="pictures of each")
    parser.add_argument("--details", type=int, default=200)
    parser.add_argument("--output", type=Path, default=RESULT)
    arguments = parser.parse_args()
    collection = Collection(arguments.artworks, arguments.variants, arguments.details)
    details, top_k = collection.details(), arguments.variants + 1
    answers: dict[str, list[list[str]]] = {}
    results: dict[str, Any] = {}
    for name, (recipe, overrides) in SYSTEMS.items():
        pipeline = Pipeline(load_recipe(recipe, ["runtime.device=cpu", *overrides]))
        with TemporaryDirectory() as folder:
            build_index(pipeline, list(dataset_sources(collection.data)), folder)
            with Searcher.open(pipeline, folder, resident=False) as searcher:
                if not answers:
                    crops = [detail.crop() for detail in details]
                    numbers = [str(number) for number in range(len(crops))]
                    answers[WHOLE] = searcher.search_images(crops, numbers, top_k=top_k).ids
                    among = RegionSearch(searcher.store, pipeline.index, pipeline.device)
                    pixels = torch.stack([pipeline.encoder.prepare(crop) for crop in crops])
                    with torch.inference_mode():
                        vectors = pipeline.encoder.encode_pixels(pixels).global_features
                    queries = [RegionQuery.of([("a", vector[None], 1.0)]) for vector in vectors]
                    rows = [among.best(query, top_k, 100)[0] for query in queries]
                    answers[CUT] = [[searcher.store.ids[row] for row in line.tolist()] for line in rows]
                    results["with a text"] = with_text(collection, searcher, details, top_k)
                    results["first stage"] = first_stage(collection, searcher, details, len(details) // 2)
                answers[name], seconds = answered(searcher, details, top_k)
            if name == WINDOWS:
                artworks, variants = arguments.artworks, arguments.variants
                data = f"data={{name: motifs, split: test, artworks: {artworks}, variants: {variants}}}"
                results["seconds a query"] = {WINDOWS: seconds}
                for label, asked, more in ((NEW, details[:10], ["search.last.kept=0"]), (LOOKED, details, [])):
                    looking = Pipeline(load_recipe(recipe, ["runtime.device=cpu", data, LAST, *more]))
                    with Searcher.open(looking, folder, resident=False) as searcher:
                        searcher.search_details(details[:1])  # the data set is opened, and the reranker built
                        found, results["seconds a query"][label] = answered(searcher, asked, top_k)
                answers[LOOKED] = found
        print(f"{name}: asked", flush=True)
    results = {**measured(collection, answers), **results}
    for kind in ("same motif", "same colour"):
        print(f"{kind}, {results[kind]['details']} details, by chance {results[kind]['chance']:.1f}")
        show(results[kind]["systems"])
    print("seconds a query", json.dumps(results["seconds a query"]))
    print("with a text", json.dumps(results["with a text"]))
    print("first stage", json.dumps(results["first stage"]))
    state = commit()
    settings = {k: getattr(arguments, k) for k in ("artworks", "variants", "details")}
    write_report(arguments.output, settings, results, goals(results, state), state)


if __name__ == "__main__":
    main()
