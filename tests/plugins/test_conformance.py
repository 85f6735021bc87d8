"""Every built-in component keeps the contract that third parties are held to."""

from __future__ import annotations

import base64
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from heritage_align.plugins import default_registry
from heritage_align.testing import Case, check_component, parametrize_with_checks

TESTS = Path(__file__).parent

ELSEWHERE = {
    "encoder.alignment": "alignment/test_alignment_encoder.py",
    "dataset.fold": "datasets/test_fold.py",
    "dataset.precomp": "datasets/test_precomp.py",
    "dataset.cropped": "datasets/test_union_and_details.py",
    "dataset.details": "datasets/test_union_and_details.py",
    "dataset.union": "datasets/test_union_and_details.py",
    "trainer.alignment": "alignment/test_alignment_trainer.py",
    "trainer.cca": "alignment/test_alignment_trainer.py",
    "encoder.bert": "bert/test_bert_encoder.py",
    "dataset.parallel_captions": "datasets/test_two_languages.py",
    "dataset.translated_captions": "datasets/test_two_languages.py",
    "dataset.vatex": "datasets/test_two_languages.py",
    "encoder.cl2cm": "cl2cm/test_cl2cm_encoder.py",
    "executor.local": "local_executor/test_local_executor.py",
    "executor.ray": "ray_executor/test_cluster.py",
    "encoder.cn_clip": "cn_clip/test_cn_clip_encoder.py",
    "encoder.fg_clip": "fg_clip/test_fg_clip_encoder.py",
    "encoder.multi_vector": "sentence_transformers/test_multi_vector.py",
    "encoder.open_clip": "open_clip/test_open_clip.py",
    "encoder.sentence_transformers": "sentence_transformers/test_whole.py",
    "encoder.transformers": "transformers/test_transformers_encoder.py",
    "filter.bfan_focal": "focal/test_bfan_focal.py",
    "filter.sift": "sift/test_sift.py",
    "fragmenter.annotated": "fragments/test_fragments.py",
    "fragmenter.multi_vector": "sentence_transformers/test_multi_vector.py",
    "fragmenter.noun_phrases": "fragments/test_noun_phrases.py",
    "fragmenter.nouns": "fragments/test_single_words.py",
    "fragmenter.punctuation": "fragments/test_fragments.py",
    "fragmenter.tokens": "fragments/test_single_words.py",
    "proposer.augmented": "augmented/test_augmented.py",
    "proposer.encoded": "encoded/test_encoded.py",
    "proposer.faster_rcnn": "faster_rcnn/test_torchvision.py",
    "proposer.multi_vector": "sentence_transformers/test_multi_vector.py",
    "proposer.patch_grid": "grids/test_patch_grid.py",
    "proposer.random_crops": "crops/test_random_crops.py",
    "proposer.region_features": "region_features/test_region_features.py",
    "reranker.cross_encoder": "sentence_transformers/test_cross_encoder.py",
    "reranker.keypoints": "sift/test_keypoints.py",
    "reranker.yes_no": "sentence_transformers/test_yes_no.py",
    "trainer.cl2cm": "cl2cm/test_cl2cm_trainer.py",
    "trainer.contrastive": "contrastive/test_training.py",
}
"""Components whose own tests run the kit, on the weights that they make."""

GLOBAL_AND_SCAN = [
    {"weight": 0.5, "similarity": {"name": "global"}},
    {"weight": 1.0, "similarity": {"name": "scan"}},
]
BOTH_FOLD = [
    {"weight": 0.5, "similarity": {"name": "global"}},
    {"weight": 2.0, "similarity": {"name": "laclip"}},
]

HERE = [
    Case("encoder", "region_features", {"dim": 12}, feature_dim=12),
    Case("similarity", "deepfrag"),
    Case("similarity", "global"),
    Case("similarity", "scan"),
    Case("similarity", "scan", {"direction": "i2t"}),
    Case("similarity", "scan", {"direction": "ens", "aggregate": "mean"}, attention={"focal": "equal"}),
    Case("similarity", "scan", {"direction": "ens", "rectifier": "relu"}, attention={"focal": "sheng"}),
    Case("similarity", "laclip"),
    Case("similarity", "laclip", {"weights": "softmax", "temperature": 0.0183, "renormalise": True}),
    Case("similarity", "laclip", {"conditioning": "text", "global_mix": 0.3}),
    Case("similarity", "late_interaction"),
    Case("similarity", "late_interaction", {"aggregate": "sum"}),
    Case("similarity", "weighted_sum", {"terms": GLOBAL_AND_SCAN}),
    Case("similarity", "weighted_sum", {"terms": BOTH_FOLD}),
    Case("index", "exact"),
    Case("index", "exact", {"block_mib": 1}),
    Case("index", "faiss"),
    Case("index", "faiss", {"kind": "flat"}),
    Case("index", "faiss", {"kind": "hnsw"}),
    Case("index", "faiss", {"kind": "ivf", "nlist": 8, "nprobe": 1}),
    Case("index", "faiss", {"kind": "pq", "pq_bytes": 4}),
    Case("index", "qdrant"),
    Case("dataset", "motifs", {"artworks": 2, "variants": 2, "size": 64}),
]


def expected(case: Case) -> dict[str, str]:
    if case.name == "scan" and case.settings.get("direction") in ("i2t", "ens"):
        return {"check_mask_is_used": "regions are the queries in i2t, and the mask is of t2i's attention"}
    if case.name == "faiss" and case.settings.get("nprobe") == 1:
        return dict.fromkeys(NOT_EXACT, "one list of eight is looked at")
    if case.name == "faiss" and case.settings.get("kind") == "pq":
        return dict.fromkeys((*NOT_EXACT, "check_best_first"), "scores are of vectors rounded to four bytes")
    return {}


NOT_EXACT = ("check_exact_answers", "check_negative_scores")


@parametrize_with_checks(HERE, expected_failed_checks=expected)
def test_conformance(check: Any) -> None:
    check()


def picture(seed: int) -> bytes:
    stream = BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    Image.fromarray(noise).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures and a torn one, in every form that a reader knows."""
    root = tmp_path_factory.mktemp("collection")
    (root / "images").mkdir()
    pictures = {"1.png": picture(1), "2.png": picture(2), "3.png": picture(3)[:60]}
    for name, data in pictures.items():
        (root / "images" / name).write_bytes(data)
    rows = [(i, f"{i}.png", text) for i, text in ((1, "鹤"), (2, "two cranes"), (3, "莲"))]
    region = {"box": [1, 1, 7, 6], "phrases": ["鹤"]}

    def lines(records: list[Any]) -> str:
        return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)

    files = {
        "test_imgs.tsv": "".join(f"{i}\t{base64.b64encode(pictures[n]).decode()}\n" for i, n, _ in rows),
        "test_texts.jsonl": lines([{"text_id": i, "text": t, "image_ids": [i]} for i, _, t in rows]),
        "table.csv": "image,text\n" + "".join(f"{n},{t}\n" for _, n, t in rows),
        "artworks.jsonl": lines([{"id": i, "image": n, "text": t, "regions": [region]} for i, n, t in rows]),
        "captions.txt": "".join(f"{n}#zhc#0\t{t}\n" for _, n, t in rows),
        "karpathy.json": json.dumps(
            {"images": [{"filename": n, "split": "test", "sentences": [{"sentid": i, "raw": t}]} for i, n, t in rows]}
        ),
    }
    canvases = [
        {
            "@id": f"https://example.org/canvas/{i}",
            "@type": "sc:Canvas",
            "label": t,
            "images": [{"resource": {"@id": f"images/{n}", "@type": "dctypes:Image"}}],
        }
        for i, n, t in rows
    ]
    files["manifest.json"] = json.dumps({"@type": "sc:Manifest", "sequences": [{"canvases": canvases}]})
    for name, text in files.items():
        (root / name).write_text(text, encoding="utf-8")
    return root


READERS = {
    "artwork_pairs": {"file": "artworks.jsonl", "images": "images"},
    "captions": {"file": "captions.txt", "images": "images"},
    "chinese_clip": {"folder": ""},
    "folder": {"folder": "images"},
    "iiif": {"manifest": "manifest.json"},
    "karpathy": {"file": "karpathy.json", "images": "images"},
    "table": {"file": "table.csv", "images": "images"},
}


@pytest.mark.parametrize("name", READERS)
def test_a_reader_conforms_and_names_the_torn_picture(collection: Path, name: str) -> None:
    settings = {key: str(collection / value) for key, value in READERS[name].items()}
    ids = Case("dataset", name, settings).build().image_ids
    (torn,) = [image_id for image_id in ids if "3" in image_id]
    wanted = "test_imgs.tsv" if name == "chinese_clip" else "3.png"
    results = check_component(Case("dataset", name, settings, bad_images={torn: wanted}))
    skipped = {r.check for r in results if r.state == "skipped"} - {"check_nested_places"}
    assert skipped == (set() if name == "artwork_pairs" else {"check_golden_boxes"})


def test_every_built_in_is_run_through_the_kit() -> None:
    components = {f"{spec.kind}.{spec.name}" for spec in default_registry().components()}
    here = {str(case) for case in HERE} | {f"dataset.{name}" for name in READERS}
    assert components == here | set(ELSEWHERE)
    for component, place in ELSEWHERE.items():
        kind, _, name = component.partition(".")
        source = (TESTS / place).read_text(encoding="utf-8")
        named = f'("{kind}", "{name}"' in "".join(source.split("\n")).replace("(            ", "(")
        assert named, f"{place} does not run the kit on {component}"
