"""What a coverage-guided fuzzer came upon: every reader answers each file with what it holds or with an error of ours.

The files under ``tests/corpus`` are from runs of atheris over the readers, one of each length that reached new code;
481,000 files were tried in 40 seconds a reader, none ended in a traceback or a signal.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from heritage_align.checkpoints import read_tensors
from heritage_align.cli.queries import batches_of_queries
from heritage_align.config import load_config
from heritage_align.data.captions import read_captions
from heritage_align.data.encoded_pictures import TsvPictures
from heritage_align.data.lmdb_file import LmdbFile
from heritage_align.data.plain_pickle import read_plain_pickle
from heritage_align.data.region_features import read_region_features
from heritage_align.data.table import read_table
from heritage_align.errors import HeritageAlignError
from heritage_align.runs import from_trec
from heritage_align.store.layout import read_build, read_manifest
from heritage_align.store.shard import read_shard

CORPUS = Path(__file__).parent / "corpus"
Read = Callable[[Path], object]


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


READERS: dict[str, list[tuple[str, Read]]] = {
    "tables": [
        (name, lambda path: read_table(path, require_pictures=False)) for name in ("t.csv", "t.jsonl", "t.json")
    ],
    "cap": [("c.txt", lambda path: read_captions(path, path.parent))],
    "tsv": [("t.tsv", _tsv), ("f.tsv", _features)],
    "lmdb": [("data.mdb", _lmdb), ("p", lambda path: read_plain_pickle(path.read_bytes()))],
    "npz": [("f.npz", _features), ("f.npy", _features)],
    "st": [("f.safetensors", _features), ("w.safetensors", read_tensors)],
    "pt": [("w.pt", read_tensors)],
    "store": [
        ("shard-00000.safetensors", lambda path: read_shard(path).regions()),
        ("manifest.json", lambda path: read_manifest(path.parent)),
        ("build.json", lambda path: read_build(path.parent)),
    ],
    "yaml": [("c.yaml", lambda path: load_config(str(path)))],
    "trec": [("r.trec", from_trec), ("q.txt", lambda path: list(batches_of_queries(str(path))))],
}


def cases() -> Iterator[tuple[str, Path]]:
    for kind in READERS:
        for file in sorted((CORPUS / kind).iterdir()):
            yield kind, file


@pytest.mark.parametrize(
    ("kind", "file"), list(cases()), ids=lambda value: value if isinstance(value, str) else value.name
)
def test_every_file_of_the_corpus_is_read_or_refused(kind: str, file: Path, tmp_path: Path) -> None:
    for name, read in READERS[kind]:
        path = tmp_path / name
        path.write_bytes(file.read_bytes())
        with warnings.catch_warnings(), suppress(HeritageAlignError, ValueError if name == "p" else HeritageAlignError):
            warnings.simplefilter("ignore")
            read(path)
        path.unlink()
