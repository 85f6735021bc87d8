"""A searcher scores where the features lie: to the bit what a copy of them scores, on files that stay as they were."""

from __future__ import annotations

import shutil
import threading
import warnings
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from heritage_align.component import ComponentConfig
from heritage_align.errors import DataError, Note, StoreError
from heritage_align.hookspecs import ComponentSpec
from heritage_align.pipeline import Pipeline
from heritage_align.planning import scores_in_place
from heritage_align.search import Searcher
from heritage_align.search.device import DeviceScorer
from heritage_align.search.resident import ResidentVectors, region_parts
from heritage_align.search.scoring import FoldedScorer, GatheredScorer, MappedScorer, chunks_of, wanted_by
from heritage_align.store import Store
from heritage_align.store.mapping import MappedTensors
from heritage_align.testing import samples
from heritage_align.types import ImageFeatures, Run, TextFeatures, TextItem

DIM = 16  # of the tiny checkpoint
COUNTS = (3, 1, 6, 2, 4, 5, 2)

SIMILARITIES: dict[str, dict[str, Any]] = {
    "scan": {"name": "scan"},
    "scan both": {"name": "scan", "direction": "ens", "aggregate": "mean"},
    "late interaction": {"name": "late_interaction"},
    "laclip by text": {"name": "laclip", "conditioning": "text", "global_mix": 0.3},
    "sum": {
        "name": "weighted_sum",
        "terms": [
            {"weight": 0.7, "similarity": {"name": "global"}},
            {"weight": 0.2, "similarity": {"name": "laclip"}},
            {"weight": 0.1, "similarity": {"name": "scan"}},
        ],
    },
}


def features(masked: bool) -> ImageFeatures:
    images = samples.image_features(COUNTS, DIM)
    if not masked:
        return images
    keep = torch.ones(sum(COUNTS), dtype=torch.bool)
    keep[[1, 5, 6, 14, 22]] = False  # the shards of the second and sixth image keep all of theirs
    return replace(images, keep=keep)


@pytest.fixture(scope="module")
def texts() -> TextFeatures:
    return samples.text_features((2, 1, 4, 3), DIM)


@pytest.fixture(scope="module")
def pipelines(scan: Pipeline) -> dict[str, Pipeline]:
    document = scan.config.as_dict()
    return {name: Pipeline.from_config({**document, "similarity": part}) for name, part in SIMILARITIES.items()}


@pytest.fixture(scope="module")
def stores(stored: Callable[..., Store], tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[Any, ...], Store]:
    folder = tmp_path_factory.mktemp("stores")
    return {
        (masked, dtype, size): stored(features(masked), folder / f"{masked}-{dtype}-{size}", dtype, size)
        for masked in (False, True)
        for dtype in ("fp32", "fp16", "int8")
        for size in (1, 3, 7)
    }


def candidates_of(draw: st.DrawFn, n_texts: int) -> torch.Tensor:
    depth = draw(st.integers(0, 9))
    row = st.lists(st.integers(-1, len(COUNTS) - 1), min_size=depth, max_size=depth)
    rows = draw(st.lists(row, min_size=n_texts, max_size=n_texts))
    return torch.tensor(rows, dtype=torch.int64).reshape(n_texts, depth)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.parametrize("name", SIMILARITIES)
def test_in_place_scores_are_those_of_a_copy_to_the_bit(
    data: st.DataObject, name: str, pipelines: dict[str, Pipeline], stores: dict[Any, Store], texts: TextFeatures
) -> None:
    pipeline, store = pipelines[name], stores[data.draw(st.sampled_from(sorted(stores)))]
    few = samples.texts_at(texts, range(data.draw(st.integers(1, len(texts)))))
    rows = candidates_of(data.draw, len(few))
    copied, in_place = GatheredScorer(pipeline, store), MappedScorer(pipeline, store)
    assert torch.equal(in_place.score(few, rows), copied.score(few, rows)) or name == "sum"
    # A sum's dot products are one matrix product over all that is given; its last bit depends on how much that is.
    torch.testing.assert_close(in_place.score(few, rows), copied.score(few, rows), atol=1e-6, rtol=0)
    torch.testing.assert_close(in_place.score_all(few), copied.score_all(few), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", SIMILARITIES)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_what_a_device_keeps_and_what_passes_through_score_the_same(
    monkeypatch: pytest.MonkeyPatch,
    pipelines: dict[str, Pipeline],
    stores: dict[Any, Store],
    texts: TextFeatures,
    name: str,
    masked: bool,
    dtype: str,
    share: float,
) -> None:
    # The CPU stands in for the device: the same uploads, chunks and calls, without pinned memory and streams.
    monkeypatch.setattr("heritage_align.search.streaming.CHUNK_BYTES", 200)
    pipeline, store, device = pipelines[name], stores[masked, dtype, 3], torch.device("cpu")
    vectors = ResidentVectors(store, device, 10**6, ["global"])
    assert vectors.nbytes == sum(block.nbytes for block in store.blocks("global"))
    assert torch.equal(vectors.blocks("global")[0], torch.cat([*store.blocks("global")]))
    wanted = wanted_by(pipeline, store)
    shards = [region_parts(store.shard_features(number), wanted) for number in range(3)]
    assert all(("factor" in parts) == (name in ("scan", "scan both", "sum")) for parts in shards)
    sizes = [sum(tensor.nbytes for tensor in parts.values()) for parts in shards]
    budget = {0.0: sizes[0] - 1, 0.5: sum(sizes) - 1, 1.0: sum(sizes)}[share]
    told: list[tuple[int, int]] = []
    scorer = DeviceScorer(pipeline, store, vectors, budget, lambda *done: told.append(done), device)
    assert scorer.resident_rows == {0.0: 0, 0.5: 6, 1.0: 7}[share]
    assert sum(done for done, _ in told) == (told[0][1] if told else 0)
    rows = torch.tensor([[0, 6, -1, 3], [5, 5, 2, 1], [-1, -1, -1, -1], [4, 0, 1, 6]])
    expected = GatheredScorer(pipeline, store).score(texts, rows)
    torch.testing.assert_close(scorer.score(texts, rows), expected, atol=1e-6, rtol=0)
    everything = GatheredScorer(pipeline, store).score_all(texts)
    torch.testing.assert_close(scorer.score_all(texts), everything, atol=1e-6, rtol=0)
    scorer.clear()
    torch.testing.assert_close(scorer.score(texts, rows), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("budget", [0, 500, 10**6])
def test_answers_come_from_what_a_device_keeps_or_from_a_copy(
    pipelines: dict[str, Pipeline], stores: dict[Any, Store], budget: int
) -> None:
    store, items = stores[True, "fp16", 3], [TextItem("a", "蓝地，缠枝莲纹"), TextItem("b", "龙")]
    searcher = Searcher(pipelines["scan"], store)
    expected = searcher.hits(items, top_k=7)
    assert [len(hit.regions) for line in expected for hit in line] == [2] * 7 + [1] * 7
    device = torch.device("cpu")
    searcher._scorer = DeviceScorer(
        pipelines["scan"], store, ResidentVectors(store, device, 0, []), budget, None, device
    )
    assert searcher._scorer.resident_rows == {0: 0, 500: 3, 10**6: 7}[budget]
    for line, others in zip(expected, searcher.hits(items, top_k=7)):
        for hit, other in zip(line, others):
            assert hit.id == other.id
            for (phrase, box, score), (same_phrase, same_box, same_score) in zip(hit.regions, other.regions):
                assert (phrase, box) == (same_phrase, same_box)
                assert score == pytest.approx(same_score, abs=1e-6)


def test_a_device_out_of_memory_streams_and_says_so_once(
    pipelines: dict[str, Pipeline], stores: dict[Any, Store], texts: TextFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, store, device = pipelines["scan"], stores[False, "fp16", 3], torch.device("cpu")
    rows = torch.tensor([[0, 6], [5, 2], [1, 1], [4, 3]])
    expected = GatheredScorer(pipeline, store).score(texts, rows)
    expected_all = GatheredScorer(pipeline, store).score_all(texts)
    scorer = DeviceScorer(pipeline, store, ResidentVectors(store, device, 0, []), 10**6, None, device)
    assert scorer._kept is not None
    kept = weakref.ref(scorer._kept)
    score = pipeline.similarity.score
    asked: list[int] = []

    def fails_on_many(images: ImageFeatures, *more: Any) -> torch.Tensor:
        asked.append(len(images))
        if len(images) < 7:
            assert kept() is None, "what the device kept is still in its memory while the store passes through"
        if len(images) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return score(images, *more)

    monkeypatch.setattr(pipeline.similarity, "score", fails_on_many)
    monkeypatch.setattr("heritage_align.search.streaming.LEAST_BYTES", 10)
    scorer._streamer._chunk_bytes = 1000  # a chunk of all seven is halved until it fits
    with pytest.warns(Note, match=r"ran out of memory; the store passes through it"):
        first = scorer.score(texts, rows)
    torch.testing.assert_close(first, expected, atol=1e-6, rtol=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(scorer.score(texts, rows), expected, atol=1e-6, rtol=0)
    assert asked[0] == 7  # resident, and not again
    assert asked.count(7) <= 2
    assert scorer.resident_rows == 0
    again = DeviceScorer(pipeline, store, ResidentVectors(store, device, 0, []), 10**6, None, device)
    with pytest.warns(Note, match="ran out of memory"):
        everything = again.score_all(texts)
    torch.testing.assert_close(everything, expected_all, atol=1e-6, rtol=0)
    monkeypatch.setattr("heritage_align.search.streaming.LEAST_BYTES", 2**20)
    monkeypatch.setattr(pipeline.similarity, "score", lambda *_: fails_on_many(features(False)))
    with pytest.raises(torch.OutOfMemoryError):
        scorer.score(texts, rows)


def test_shards_of_which_some_have_factors(
    pipelines: dict[str, Pipeline], stored: Callable[..., Store], tmp_path: Path, texts: TextFeatures
) -> None:
    # What a merge of a store made for SCAN and one made for late interaction over the same regions is.
    whole = stored(features(False), tmp_path / "store", "fp32", 3)
    path = whole.path / "shard-00001.safetensors"
    tensors = {name: tensor for name, tensor in load_file(path).items() if name != "factor"}
    save_file(tensors, path, MappedTensors(path).metadata)
    store, device = Store.open(whole.path), torch.device("cpu")
    rows = torch.tensor([[0, 6, -1, 3], [5, 5, 2, 1], [4, 4, 4, 4], [4, 0, 1, 6]])
    for name in ("scan", "late interaction"):
        expected = GatheredScorer(pipelines[name], store).score(texts, rows)
        for budget in (0, 10**6):
            scorer = DeviceScorer(pipelines[name], store, ResidentVectors(store, device, 0, []), budget, None, device)
            torch.testing.assert_close(scorer.score(texts, rows), expected, atol=1e-6, rtol=0)
        in_place = MappedScorer(pipelines[name], store).score(texts, rows)
        torch.testing.assert_close(in_place, expected, atol=1e-6, rtol=0)


def test_a_similarity_that_only_holds_one_in_place_is_not_given_a_store() -> None:
    class Nested:
        settings = ComponentConfig()

        def __init__(self, *outputs: str, **nested: Nested) -> None:
            self.spec = ComponentSpec("similarity", "s", "a:b", "a:c", outputs=outputs)
            self.nested = nested

    inner: Any = Nested("in_place")
    wrappers: list[Any] = [Nested("in_place", inner=inner), Nested(inner=inner), Nested("in_place", inner=Nested())]
    assert [scores_in_place(wrapper) for wrapper in wrappers] == [True, False, False]


def test_a_whole_image_score_over_a_store_with_regions_has_hits_without_answers(
    scan: Pipeline, stored: Callable[..., Store], tmp_path: Path
) -> None:
    whole = Pipeline.from_config(scan.config.as_dict(), ["similarity={name: global}"])
    store = stored(features(False), tmp_path / "store", "fp16", 3)
    [hits] = Searcher(whole, store).hits([TextItem("q", "龙")], top_k=3)
    assert [hit.regions for hit in hits] == [(), (), ()]


def test_a_folded_score_reads_no_region(
    stored: Callable[..., Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, texts: TextFeatures
) -> None:
    images = features(False)
    store = stored(images, tmp_path / "store", "fp32", 3)
    folding = Store(store.path, replace(store.manifest, folded="global"), store._shards)
    monkeypatch.setattr(Store, "shard_features", lambda *_, **__: pytest.fail("a region was read"))
    rows = torch.tensor([[0, 6, -1], [5, 5, 2], [-1, -1, -1], [4, 0, 1]])
    cosines = texts.global_features @ images.global_features.T
    expected = torch.where(rows < 0, -torch.inf, cosines.gather(1, rows.clamp_min(0)))
    torch.testing.assert_close(FoldedScorer(folding).score(texts, rows), expected)
    torch.testing.assert_close(FoldedScorer(folding).score_all(texts), cosines.T)
    monkeypatch.setattr("heritage_align.search.scoring.PICKED_BYTES", 4 * DIM * 3)  # one query at once
    torch.testing.assert_close(FoldedScorer(folding).score(texts, rows), expected)


def test_chunks_hold_what_they_may(stores: dict[Any, Store]) -> None:
    store = stores[False, "fp16", 3]
    rows = torch.tensor([0, 2, 3, 4, 6])  # 3, 6, 2, 4 and 2 regions of 32 bytes
    assert store.region_bytes(rows).tolist() == [96, 192, 64, 128, 64]
    assert [chunk.tolist() for chunk in chunks_of(rows, store.region_bytes(rows), 256)] == [[0], [2, 3], [4, 6]]
    assert [chunk.tolist() for chunk in chunks_of(rows, store.region_bytes(rows), 1)] == [[0], [2], [3], [4], [6]]
    assert chunks_of(rows[:0], rows[:0], 256) == []


class TestFaults:
    """What happens to the files underneath an open searcher is named, and never answered from."""

    ROWS = torch.tensor([[0, 3, 6]])

    @pytest.fixture
    def searcher(
        self, scan: Pipeline, stored: Callable[..., Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Searcher:
        monkeypatch.setattr("heritage_align.store.reader.CHECK_SECONDS", 0)
        return Searcher(scan, stored(features(False), tmp_path / "store", "fp16", 3))

    @pytest.fixture
    def one(self, texts: TextFeatures) -> TextFeatures:
        return samples.texts_at(texts, [0])

    def test_deleted(self, searcher: Searcher, one: TextFeatures) -> None:
        assert torch.isfinite(searcher.score(one, self.ROWS)).all()
        shutil.rmtree(searcher.store.path)
        with pytest.raises(StoreError, match=r"store: is gone, or is being built again"):
            searcher.score(one, self.ROWS)
        with pytest.raises(StoreError, match=r"store: is gone"):
            searcher.search([TextItem("q", "龙")])

    def test_rebuilt(self, searcher: Searcher, one: TextFeatures, stored: Callable[..., Store]) -> None:
        path = searcher.store.path
        shutil.rmtree(path)
        stored(samples.image_features(COUNTS, DIM, seed=9), path, "fp16", 3)
        with pytest.raises(StoreError, match=r"shard-00000\.safetensors: was changed since the store was opened"):
            searcher.score(one, self.ROWS)
        assert torch.isfinite(Searcher(searcher.pipeline, Store.open(path)).score(one, self.ROWS)).all()

    def test_overwritten_between_two_looks(
        self, laclip: Pipeline, stored: Callable[..., Store], tmp_path: Path
    ) -> None:
        # What cp does: another content in the same file, which a mapping shows at once.
        store = stored(features(False), tmp_path / "store", "fp16", 3)
        searcher = Searcher(laclip, store)
        searcher.search([TextItem("q", "龙")])
        path = store.path / "shard-00001.safetensors"
        content = path.read_bytes()
        with path.open("r+b") as stream:
            stream.write(content)
        with pytest.raises(StoreError, match=r"shard-00001\.safetensors: was changed"):
            searcher.search([TextItem("q", "龙")])

    def test_cut_between_two_looks(
        self, searcher: Searcher, one: TextFeatures, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Reading the pages that are gone would end the process with SIGBUS.
        monkeypatch.setattr("heritage_align.store.reader.CHECK_SECONDS", 1e9)
        path = searcher.store.path / "shard-00001.safetensors"
        path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(StoreError, match=r"shard-00001\.safetensors: was changed"):
            searcher.score(one, self.ROWS)

    @pytest.mark.parametrize("name", ["regions.values", "global"])
    def test_damaged(
        self, scan: Pipeline, stored: Callable[..., Store], tmp_path: Path, one: TextFeatures, name: str
    ) -> None:
        store = stored(features(False), tmp_path / "store", "fp16", 3)
        path = store.path / "shard-00001.safetensors"
        tensors = dict(load_file(path))
        tensors[name][:1] = torch.nan
        save_file(tensors, path, MappedTensors(path).metadata)
        searcher = Searcher(scan, Store.open(store.path))
        with pytest.raises(StoreError, match=r"shard-00001\.safetensors: image 'image-3' scores nan"):
            searcher.score(one, self.ROWS) if name == "regions.values" else searcher.search_images(
                *pictures_of_one_colour()
            )

    def test_rows_outside(self, searcher: Searcher, one: TextFeatures) -> None:
        for rows in ([[0, 7]], [[-2, 0]]):
            with pytest.raises(ValueError, match=r"rows: expected rows of 0\.\.6, or -1; got"):
                searcher.score(one, torch.tensor(rows))
        with pytest.raises(ValueError, match=r"rows: expected \(1, k\), got \(2, 1\)"):
            searcher.score(one, torch.tensor([[0], [1]]))
        assert searcher.score(one, torch.tensor([[-1]])).tolist() == [[-torch.inf]]
        assert searcher.score(one, torch.empty(1, 0, dtype=torch.int64)).shape == (1, 0)

    def test_closed_it_goes_on(self, searcher: Searcher, one: TextFeatures) -> None:
        before = searcher.score(one, self.ROWS)
        searcher.close()
        assert torch.equal(searcher.score(one, self.ROWS), before)


def pictures_of_one_colour() -> tuple[list[Any], list[str]]:
    return [samples.images()["flat"]], ["flat"]


def test_thirty_two_threads_get_what_one_gets(scan: Pipeline, stored: Callable[..., Store], tmp_path: Path) -> None:
    counts = [2 + i % 5 for i in range(60)]
    store = stored(samples.image_features(counts, DIM), tmp_path / "store", "fp16", 4)
    searcher = Searcher(scan, Store.open(store.path, host_memory="1KiB"))  # pages go while others read them
    words = ["龙", "凤", "缠枝莲", "云", "a red dragon", "two cranes"]
    queries = [TextItem(f"q{i}", f"{words[i % 6]}，{words[i % 5]}{i}") for i in range(32)]
    alone = [Searcher(scan, store).hits([item], top_k=5, candidates=40) for item in queries]
    answers: dict[int, Any] = {}
    together = threading.Barrier(32)

    def ask(number: int) -> None:
        together.wait()
        for _ in range(3):
            answers[number] = searcher.hits([queries[number]], top_k=5, candidates=40)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answers[number] for number in range(32)] == alone


def test_a_query_that_is_no_list_is_named(scan: Pipeline, stored: Callable[..., Store], tmp_path: Path) -> None:
    searcher = Searcher(scan, stored(features(False), tmp_path / "store", "fp16", 3))
    queries: list[Any] = ["red", TextItem("q", "red")]
    for query in queries:
        with pytest.raises(DataError, match="search: expected a list of TextItem, got"):
            searcher.search(query)
    number: Any = 1.5
    with pytest.raises(DataError, match=r"top_k is 1\.5, expected a whole number of at least 1"):
        searcher.search([TextItem("q", "red")], top_k=number)


def test_all_ways_agree(scan: Pipeline, stored: Callable[..., Store], tmp_path: Path) -> None:
    store = stored(features(False), tmp_path / "store", "fp16", 2)
    searcher, items = Searcher(scan, store), [TextItem("a", "蓝地，缠枝莲纹"), TextItem("b", "a red dragon")]
    run = searcher.search(items, top_k=7, candidates=7)
    scores = searcher.score_all(scan.encode_texts(items))
    for column, (ids, values) in enumerate(zip(run.ids, run.scores)):
        assert [float(scores[store.row(i), column]) for i in ids] == pytest.approx(values, abs=1e-6)
    again = searcher.rerank(Run(run.query_ids, [sorted(ids) for ids in run.ids], run.scores), items)
    assert (again.ids, again.scores) == (run.ids, run.scores)
    assert [hit.id for hit in searcher.rank(items[0], run.ids[0])] == run.ids[0]
    with searcher:
        hits = searcher.hits(items, top_k=3, candidates=7)
    assert [[hit.id for hit in line] for line in hits] == [ids[:3] for ids in run.ids]
    assert all(hit.regions for line in hits for hit in line)
