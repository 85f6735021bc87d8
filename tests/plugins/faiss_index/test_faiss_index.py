"""faiss by inner product: full answers in order, whatever the kind, and files that are opened or refused by name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import faiss
import pytest
import torch
from heritage_align_plugins.exact_index.config import ExactIndexConfig
from heritage_align_plugins.exact_index.index import ExactIndex
from heritage_align_plugins.faiss_index.config import FaissIndexConfig
from heritage_align_plugins.faiss_index.index import FILE, FaissIndex, FaissSearch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from heritage_align.errors import ConfigError, MissingDependency, StoreError
from heritage_align.plugins import default_registry
from heritage_align.protocols import BuildContext, KeptIndex

KINDS: list[dict[str, Any]] = [
    {"kind": "flat"},
    {"kind": "ivf", "nlist": 20, "nprobe": 6},
    {"kind": "hnsw", "ef": 40},
    {"kind": "pq", "nlist": 8, "nprobe": 3, "pq_bytes": 8},
]


def index_of(seed: int = 0, **values: Any) -> FaissIndex:
    return FaissIndex(FaissIndexConfig(**values), BuildContext(seed=seed))


def exact(blocks: list[Tensor], queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    return ExactIndex(ExactIndexConfig(), BuildContext()).search(blocks, queries, k)


def clustered(count: int, dim: int, seed: int = 0) -> Tensor:
    """Vectors about 30 centres, of lengths from 2 to 12, as sums of weighted crops are."""
    draw = torch.Generator().manual_seed(seed)
    centres = torch.randn(30, dim, generator=draw)
    rows = centres[torch.randint(30, (count,), generator=draw)] + 0.7 * torch.randn(count, dim, generator=draw)
    return torch.nn.functional.normalize(rows, dim=1) * (2 + 10 * torch.rand(count, 1, generator=draw))


def test_it_is_an_index_that_is_kept() -> None:
    assert isinstance(index_of(), KeptIndex)


@settings(max_examples=40)
@given(
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=4),
    n_queries=st.integers(0, 4),
    k=st.integers(1, 60),
    seed=st.integers(0, 2**16),
)
def test_flat_answers_are_the_exact_ones(sizes: list[int], n_queries: int, k: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    # Small whole numbers: sums are exact. Of five values, so that no more than TIES times k answers are equal by far.
    blocks = [torch.randint(-9, 10, (n, 5), generator=draw).half() for n in sizes]
    queries = torch.randint(-9, 10, (n_queries, 5), generator=draw).float()
    rows, scores = index_of(kind="flat").search(blocks, queries, k)
    wanted_rows, wanted = exact(blocks, queries, k)
    assert torch.equal(scores, wanted)
    assert torch.equal(rows, wanted_rows)


@pytest.mark.parametrize("values", KINDS, ids=lambda values: values["kind"])
def test_every_kind_finds_what_is_asked_for_among_vectors_of_any_length(values: dict[str, Any], tmp_path: Path) -> None:
    blocks = list(clustered(3000, 32).half().split(700))
    queries = torch.nn.functional.normalize(clustered(40, 32, seed=1), dim=1)
    index = index_of(**values)
    index.build(blocks, tmp_path)
    kept = index.open(tmp_path)
    rows, scores = kept.search(queries, 50)
    assert rows.shape == scores.shape == (40, 50)
    assert all(len(set(line)) == 50 for line in rows.tolist())
    assert bool((scores[:, 1:] <= scores[:, :-1]).all())
    wanted, _ = exact(blocks, queries, 10)
    recall = sum(len({*a} & {*b}) for a, b in zip(rows.tolist(), wanted.tolist())) / 400
    assert recall >= {"flat": 1.0, "ivf": 0.9, "hnsw": 0.95, "pq": 0.6}[values["kind"]]
    one = kept.search(queries[7:8], 50)[0]
    assert torch.equal(one, rows[7:8])
    kept.close()


def test_a_query_that_finds_too_few_looks_further() -> None:
    vectors = clustered(500, 16)
    index = index_of(kind="ivf", nlist=50, nprobe=1)
    rows, scores = index.search([vectors], vectors[:3], 400)
    assert (rows >= 0).all()
    assert all(len(set(line)) == 400 for line in rows.tolist())
    torch.testing.assert_close(scores, (vectors[:3] @ vectors.T).gather(1, rows))
    everything, _ = index.search([vectors], vectors[:3], 1000)
    assert [sorted(line) for line in everything.tolist()] == [list(range(500))] * 3


def test_a_graph_of_equal_vectors_finds_all_of_them_in_order() -> None:
    vectors = torch.ones(300, 8)
    rows, scores = index_of(kind="hnsw", ef=4, hnsw_m=2).search([vectors], torch.ones(2, 8), 120)
    assert all(len(set(line)) == 120 for line in rows.tolist())
    assert (scores == 8).all()
    assert all(line == sorted(line) for line in rows.tolist())


def test_settings_of_a_search_change_no_index_and_others_do() -> None:
    assert index_of(nprobe=1).fingerprint() == index_of(nprobe=64).fingerprint()
    assert index_of(kind="hnsw", ef=1).fingerprint() == index_of(kind="hnsw", ef=64).fingerprint()
    prints = [
        index_of(**v).fingerprint()
        for v in (
            {},
            {"nlist": 9},
            {"seed": 1},
            {"kind": "flat"},
            {"kind": "hnsw"},
            {"kind": "hnsw", "hnsw_m": 8},
            {"kind": "hnsw", "ef_construction": 10},
            {"kind": "pq"},
            {"kind": "pq", "pq_bytes": 8},
        )
    ]
    assert len(set(prints)) == len(prints)


@pytest.mark.parametrize("kind", ["ivf", "pq"])
def test_the_same_seed_makes_the_same_file(kind: str, tmp_path: Path) -> None:
    vectors = clustered(1500, 16)
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # k-means of several threads adds up in another order
    try:
        for name, seed in (("a", 0), ("b", 0), ("c", 1)):
            (tmp_path / name).mkdir()
            index_of(seed=seed, kind=kind, nlist=10, pq_bytes=4).build(list(vectors.split(400)), tmp_path / name)
    finally:
        faiss.omp_set_num_threads(threads)
    made = [(tmp_path / name / FILE).read_bytes() for name in "abc"]
    assert made[0] == made[1]
    assert made[0] != made[2]


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    vectors = clustered(100, 16)
    with pytest.raises(ConfigError, match="index.pq_bytes: 5 does not divide the 16 dimensions"):
        index_of(kind="pq", pq_bytes=5).build([vectors], tmp_path)
    index = index_of(kind="flat")
    for queries, k, message in (
        (torch.ones(2, 15), 1, r"blocks\[0\]: expected \(n, 15\) as the queries, got \(100, 16\)"),
        (torch.full((1, 16), torch.nan), 1, "queries: hold NaN"),
        (torch.ones(2, 16), 0, "k: expected at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            index.search([vectors], queries, k)
    index.build([vectors], tmp_path)
    with pytest.raises(ValueError, match=r"queries: expected \(n_queries, 16\), got \(2, 15\)"):
        index.open(tmp_path).search(torch.ones(2, 15), 1)


def test_a_file_that_faiss_cannot_read_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"not an index")
    with pytest.raises(StoreError, match=rf"{FILE}: faiss .* cannot read it") as caught:
        index_of().open(tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(StoreError, match="cannot be written"):
        index_of(kind="flat").build([clustered(10, 4)], tmp_path / "no such folder")


def test_an_index_that_is_open_may_be_deleted(tmp_path: Path) -> None:
    vectors = clustered(300, 8)
    index = index_of(kind="ivf", nlist=4, nprobe=4)
    index.build([vectors], tmp_path)
    kept: FaissSearch = index.open(tmp_path)
    before = kept.search(vectors[:2], 5)[0]
    (tmp_path / FILE).unlink()
    assert torch.equal(kept.search(vectors[:2], 5)[0], before)


def test_without_faiss_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = default_registry()
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingDependency, match=r"index 'faiss' needs faiss: pip install 'heritage-align\[faiss\]'"):
        registry.target(registry.spec("index", "faiss"))
