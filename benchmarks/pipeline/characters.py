"""Recall of the shipped encoder for queries in traditional characters: as written, and read as simplified ones.

    python benchmarks/pipeline/characters.py

The captions of the motif collection are simplified Chinese; OpenCC writes them in traditional characters. Texts and
pictures are encoded whole (recipe ``global``); a query is right if its picture is the first of all.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import opencc
import torch

from heritage_align import Pipeline, TextItem, dataset_sources
from heritage_align.bench.goals import judged_value
from heritage_align.bench.machine import commit, machine_facts
from heritage_align.data import Motifs
from heritage_align.recipes import read_document

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "benchmarks" / "results" / "characters.json"
LOSS = 1.0  # points of R@1 that traditional queries may lose


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artworks", type=int, default=125, help="of the test split, four pictures each")
    parser.add_argument("--output", type=Path, default=RESULT)
    given = parser.parse_args()
    motifs = Motifs("test", artworks=given.artworks, languages=("zh",))
    convert = opencc.OpenCC("s2t").convert
    simplified = list(motifs.texts)
    traditional = [replace(item, text=convert(item.text)) for item in simplified]
    changed = sum(a.text != b.text for a, b in zip(simplified, traditional))
    rows: dict[str, float] = {}
    images = None
    for form in ("as_written", "auto"):
        pipeline = Pipeline.from_config(
            read_document("global")[1], [f"encoder.characters={form}", "runtime.device=cpu"]
        )
        if images is None:
            stream = pipeline.encode_stream(dataset_sources(motifs), on_error=refuse)
            images = torch.cat([batch.global_features for batch in stream])
        for script, items in (("simplified", simplified), ("traditional", traditional)):
            rows[f"{script}, {form}"] = recall(pipeline, images, motifs.image_ids, items)
            print(f"R@1 {rows[f'{script}, {form}']:6.2f}  {script} queries, characters: {form}")
    lost = rows["simplified, auto"] - rows["traditional, auto"]
    changed_by_reading = rows["simplified, auto"] - rows["simplified, as_written"]
    document: dict[str, Any] = {
        "commit": commit(),
        "machine": machine_facts(torch.device("cpu")),
        "queries": len(simplified),
        "pictures": len(motifs.image_ids),
        "queries_that_differ": changed,
        "r_at_1": {name: round(value, 2) for name, value in rows.items()},
        "goals": [
            judged_value(
                "points of R@1 that traditional queries lose", lost, LOSS, 0.0, at_least=False, commit=commit()
            ),
            judged_value(
                "points of R@1 that simplified queries lose",
                abs(changed_by_reading),
                0.0,
                0.0,
                at_least=False,
                commit=commit(),
            ),
        ],
    }
    given.output.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def recall(pipeline: Pipeline, images: torch.Tensor, ids: tuple[str, ...], items: list[TextItem]) -> float:
    """Return the share of texts, in percent, whose picture scores highest."""
    texts = pipeline.encode_texts(items).global_features
    best = (texts @ images.T).argmax(1).tolist()
    return 100 * sum(ids[row] in item.image_ids for row, item in zip(best, items)) / len(items)


def refuse(image_id: str, error: Exception) -> None:
    """Raise what a picture gave."""
    raise RuntimeError(image_id) from error


if __name__ == "__main__":
    main()
