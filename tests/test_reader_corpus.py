"""What a coverage-guided fuzzer came upon: every reader answers each file with what it holds or with an error of ours.

The files under ``tests/corpus`` are from runs of ``tests/fuzz_readers.py`` over these readers; each reaches lines that
those before it do not. Tried, on two shared cores: manifests 79,198 files in 600 s, pictures 157,586 in 600, tables
43,105 in 600, weights 139,057 in 809, safetensors 222,152 in 632, configurations 33,095 in 648, runs and queries
624,167 in 643, captions 67,041 in 641, region features 171,348 in 1132, LMDB 1,146,949 in 1027, stores 764,543 in
922, data sets in JSON 466,706 in 883, tsv 396,855 in 765. Whatever ended in a traceback, a signal or gigabytes was
mended. Configurations nested in hundreds of levels take a second for 5 KB, which the fuzzer's instrumentation makes
20; they are left.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from heritage_align_plugins.alignment.description import read_description as read_alignment
from heritage_align_plugins.cl2cm.description import read_description as read_cl2cm
from heritage_align_plugins.cn_clip.architecture import find_architecture
from heritage_align_plugins.faster_rcnn.weights import read_arrays
from heritage_align_plugins.fragments.tagging.chinese import read_dictionary
from PIL import Image

from heritage_align.annotations import annotated_manifest, read_manifest, write_page
from heritage_align.checkpoints import read_tensors
from heritage_align.cli.queries import batches_of_queries
from heritage_align.config import load_config
from heritage_align.data.artwork_pairs import read_artwork_pairs
from heritage_align.data.captions import read_captions
from heritage_align.data.chinese_clip import read_chinese_clip
from heritage_align.data.discover import discover
from heritage_align.data.encoded_pictures import LmdbPictures, TsvPictures
from heritage_align.data.frame_features import read_frame_features
from heritage_align.data.iiif import read_iiif
from heritage_align.data.iiif.reader import is_iiif
from heritage_align.data.images import load_image
from heritage_align.data.karpathy import read_karpathy
from heritage_align.data.lmdb_file import LmdbFile
from heritage_align.data.parallel_captions import read_parallel_captions
from heritage_align.data.pixels import load_pixels
from heritage_align.data.plain_pickle import read_plain_pickle
from heritage_align.data.precomputed import read_precomputed
from heritage_align.data.region_features import read_region_features
from heritage_align.data.table import read_table
from heritage_align.data.translated_captions import read_translated_captions
from heritage_align.data.vatex import read_vatex
from heritage_align.errors import HeritageAlignError
from heritage_align.model_files import card_license
from heritage_align.runs import from_trec
from heritage_align.service.settings import read_settings
from heritage_align.store.kept import fault_of
from heritage_align.store.layout import read_build
from heritage_align.store.layout import read_manifest as read_store
from heritage_align.store.shard import read_shard
from heritage_align.training.state import load_state

CORPUS = Path(__file__).parent / "corpus"
MAX_PIXELS = 2**20
"""Of pictures: decoding what a header of a few bytes may claim by default takes a second."""
Read = Callable[[Path], object]


class _Refused(HeritageAlignError):
    """A ValueError of those functions that promise one."""


@contextmanager
def _value_error_is_refusal() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise _Refused(str(error)) from error


def _tsv(path: Path) -> None:
    pictures = TsvPictures(path)
    for image_id in pictures.ids:
        pictures.read(image_id)


def _features(path: Path) -> None:
    found = read_region_features(path)
    found.select(found.ids, empty="whole").regions()


def _lmdb(path: Path) -> None:
    entries = LmdbFile(path.parent)
    for key in entries:
        entries.get(key)
    pictures = LmdbPictures(path.parent)
    for image_id in pictures.ids:
        pictures.read(image_id)


def _pairs(path: Path) -> None:
    folder = path.parents[3]
    read_chinese_clip(folder, "t", images=folder)


def _pickle(path: Path) -> None:
    with _value_error_is_refusal():
        read_plain_pickle(path.read_bytes())


def _collection(path: Path) -> None:
    """Read a manifest that is an image's ``info.json`` too, with the pictures that its canvases show."""
    service = path.parent / "svc"
    if not service.exists():
        for name in ("full/max", "full/16,8", "full/8,4", "0,0,8,8/8,", "8,0,8,8/8,"):
            file = service / name / "0" / "default.jpg"
            file.parent.mkdir(parents=True)
            Image.new("RGB", (8, 8), "navy").save(file)
    (service / "info.json").write_bytes(path.read_bytes())
    is_iiif(path)
    found = read_iiif(path, cache=path.parent / "cache", side=16)
    for image_id in found.image_ids[:8]:
        try:
            found.load_image(image_id)
        except HeritageAlignError:
            continue


def _annotated(path: Path) -> None:
    """Put an annotation into each canvas of a manifest, and write it."""
    document = read_manifest(path)
    ids = [canvas.get("id") for canvas in document["items"] if isinstance(canvas, dict)]
    page = {"id": "page", "items": [{"target": name} for name in ids if isinstance(name, str)]}
    write_page(path, annotated_manifest(document, page))


def _karpathy(path: Path) -> None:
    read_karpathy(path, path.parent)


def _precomputed(path: Path) -> None:
    """Read features and captions, of which the file is one and the other is beside it."""
    name = path.name.split("_")[0]
    beside = {"ims.npy": path.with_name(f"{name}_ims.npy"), "caps.txt": path.with_name(f"{name}_caps.txt")}
    if not beside["ims.npy"].exists():
        np.save(beside["ims.npy"], np.ones((2, 2, 3), dtype=np.float32))
    if not beside["caps.txt"].exists():
        beside["caps.txt"].write_text("one\ntwo\nthree\nfour\n")
    read_precomputed(path.parent, name)
    _features(path.parent)


def _kept(path: Path) -> None:
    fault_of(path.parent, thorough=True)


READERS: dict[str, list[tuple[str, Read]]] = {
    "iiif": [("m.json", _collection), ("a.json", _annotated)],
    "images": [
        ("p.img", lambda path: load_image(path, max_pixels=MAX_PIXELS)),
        ("q.img", lambda path: load_pixels(path, max_pixels=MAX_PIXELS // 64)),
    ],
    "tables": [
        *((name, lambda path: read_table(path, require_pictures=False)) for name in ("t.csv", "t.jsonl", "t.json")),
        ("r.csv", read_table),
        ("d.csv", discover),
        ("d.jsonl", discover),
    ],
    "sets": [
        ("k.json", _karpathy),
        ("v.json", read_vatex),
        ("t_texts.jsonl", lambda path: read_chinese_clip(path.parent, "t", images=path.parent)),
        ("a.jsonl", read_artwork_pairs),
    ],
    "cap": [
        ("c.txt", lambda path: read_captions(path, path.parent)),
        ("l.txt", lambda path: read_captions(path, path.parent, split=path)),
        (
            "e.txt",
            lambda path: read_translated_captions(
                path, path, path.parent, source_language="en", target_language="zh", require_pictures=False
            ),
        ),
        ("i.txt", lambda path: read_parallel_captions(path, path.parent, {"en": [path]}, require_pictures=False)),
        ("s/s_caps.txt", _precomputed),
        ("w.txt", read_dictionary),
    ],
    "tsv": [("t.tsv", _tsv), ("f.tsv", _features)],
    "lmdb": [("data.mdb", _lmdb), ("p", _pickle), ("s/lmdb/t/pairs/data.mdb", _pairs)],
    "npz": [
        ("f.npz", _features),
        ("f.npy", _features),
        ("n/n.npz", lambda path: _features(path.parent)),
        ("s/s_ims.npy", _precomputed),
        ("v/v.npy", lambda path: read_frame_features(path.parent)),
    ],
    "st": [
        ("f.safetensors", _features),
        ("w.safetensors", read_tensors),
        ("a.safetensors", lambda path: find_architecture(str(path))),
        ("m.safetensors", read_alignment),
        ("c.safetensors", read_cl2cm),
    ],
    "pt": [
        ("w.pt", read_tensors),
        ("last.pt", lambda path: load_state(path.parent, "a run")),
        ("w.pkl", read_arrays),
    ],
    "store": [
        ("shard-00000.safetensors", lambda path: read_shard(path).regions()),
        ("manifest.json", lambda path: read_store(path.parent)),
        ("build.json", lambda path: read_build(path.parent)),
        ("about.json", _kept),
    ],
    "yaml": [
        ("c.yaml", lambda path: load_config(str(path))),
        ("s.yaml", read_settings),
        ("README.md", card_license),
        ("a.json", lambda path: find_architecture(str(path))),
    ],
    "trec": [("r.trec", from_trec), ("q.txt", lambda path: list(batches_of_queries(str(path))))],
}


def read_or_refuse(kind: str, data: bytes, folder: Path) -> list[HeritageAlignError]:
    """Have every reader of a kind read a file; return the errors of ours that they raised, any other is a fault."""
    refused = []
    for name, read in READERS[kind]:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read(path)
        except HeritageAlignError as error:
            refused.append(error)
        finally:
            path.unlink()
    return refused


def cases() -> Iterator[tuple[str, Path]]:
    for kind in READERS:
        for file in sorted((CORPUS / kind).iterdir()):
            yield kind, file


@pytest.mark.parametrize(
    ("kind", "file"), list(cases()), ids=lambda value: value if isinstance(value, str) else value.name
)
def test_every_file_of_the_corpus_is_read_or_refused(kind: str, file: Path, tmp_path: Path) -> None:
    read_or_refuse(kind, file.read_bytes(), tmp_path)
