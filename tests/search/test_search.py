"""Search, rerank and rank against scoring everything."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from heritage_align.data.images import load_image
from heritage_align.errors import DataError, StoreError
from heritage_align.features import one_image
from heritage_align.indexing import build_index
from heritage_align.ops import Ragged
from heritage_align.pipeline import Pipeline, dataset_sources
from heritage_align.search import Searcher, rank, rerank, search, search_images, search_texts
from heritage_align.store import Store
from heritage_align.types import ImageFeatures, Run, TextItem

QUERIES = [TextItem("a", "蓝地，缠枝莲纹"), TextItem("b", "a red dragon, two clouds")]


@pytest.fixture(scope="module")
def scan_store(scan: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return stored(scan, tmp_path_factory)


@pytest.fixture(scope="module")
def laclip_store(laclip: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return stored(laclip, tmp_path_factory)


def stored(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("stores") / "store"
    build_index(pipeline, list(dataset_sources(pipeline.dataset())), folder)
    return Store.open(folder, expect=pipeline.identity())


def expected(pipeline: Pipeline, store: Store, item: TextItem) -> list[tuple[str, float]]:
    """Score every stored image and sort."""
    images = store.gather(torch.arange(len(store)))
    scores = pipeline.score(images, pipeline.encode_texts([item]))[:, 0]
    order = scores.sort(descending=True, stable=True).indices.tolist()
    return [(store.ids[row], float(scores[row])) for row in order]


def test_a_folding_similarity_is_answered_exactly_by_the_first_stage(laclip: Pipeline, laclip_store: Store) -> None:
    run = search(laclip, laclip_store, QUERIES, top_k=4)
    for item, ids, scores in zip(QUERIES, run.ids, run.scores):
        wanted = expected(laclip, laclip_store, item)[:4]
        assert ids == [i for i, _ in wanted]
        assert scores == pytest.approx([s for _, s in wanted], abs=1e-5)


def test_with_all_images_as_candidates_the_rerank_is_exact(scan: Pipeline, scan_store: Store) -> None:
    run = search(scan, scan_store, QUERIES, top_k=10, candidates=100)
    for item, ids, scores in zip(QUERIES, run.ids, run.scores):
        wanted = expected(scan, scan_store, item)
        assert ids == [i for i, _ in wanted]
        assert scores == pytest.approx([s for _, s in wanted], abs=1e-5)


def test_few_candidates_are_those_of_the_global_cosine(scan: Pipeline, scan_store: Store) -> None:
    run = search(scan, scan_store, QUERIES[:1], top_k=2, candidates=3)
    images = scan_store.gather(torch.arange(len(scan_store)))
    cosines = images.global_features @ scan.encode_texts(QUERIES[:1]).global_features[0]
    chosen = {scan_store.ids[row] for row in cosines.topk(3).indices.tolist()}
    assert set(run.ids[0]) < chosen
    everything = expected(scan, scan_store, QUERIES[0])
    assert run.ids[0] == [i for i, _ in everything if i in chosen][:2]


def test_rerank_keeps_each_query_to_its_candidates(scan: Pipeline, scan_store: Store) -> None:
    before = Run(("b", "a"), [["p7.png", "p1.png", "p4.png"], ["p2.png"]], [[3.0, 2.0, 1.0], [1.0]])
    after = rerank(scan, scan_store, before, QUERIES)
    assert after.query_ids == ("b", "a")
    assert after.ids[0] == [i for i, _ in expected(scan, scan_store, QUERIES[1]) if i in before.ids[0]]
    assert after.ids[1] == ["p2.png"]
    assert after.tag == "tiny"


def test_rank_returns_hits_best_first(scan: Pipeline, scan_store: Store) -> None:
    hits = rank(scan, scan_store, QUERIES[0].text, ["p9.png", "p0.png", "p5.png"], top_k=2)
    wanted = [i for i, _ in expected(scan, scan_store, QUERIES[0]) if i in ("p9.png", "p0.png", "p5.png")]
    assert [hit.id for hit in hits] == wanted[:2]
    assert [hit.rank for hit in hits] == [1, 2]
    assert hits[0].asdict()["corpus_id"] == hits[0].id
    assert rank(scan, scan_store, "x", []) == []


def test_a_picture_finds_itself_first(laclip: Pipeline, laclip_store: Store, pictures: Path) -> None:
    run = search_images(laclip, laclip_store, [load_image(pictures / "p6.png")], ["query"], top_k=3)
    assert run.ids[0][0] == "p6.png"
    assert run.scores[0][0] == pytest.approx(1, abs=1e-3)  # fp16 storage


def test_hits_say_which_region_answered(scan: Pipeline, scan_store: Store) -> None:
    [hits] = Searcher(scan, scan_store).hits(QUERIES[1:], top_k=2)
    run = search(scan, scan_store, QUERIES[1:], top_k=2)
    assert [(hit.id, hit.score) for hit in hits] == list(zip(run.ids[0], run.scores[0]))
    assert [phrase for phrase, _, _ in hits[0].regions] == ["a red dragon", "two clouds"]
    for _, (x0, y0, x1, y1), _ in hits[0].regions:
        assert 0 <= x0 < x1 <= 1
        assert 0 <= y0 < y1 <= 1


def test_bad_input_is_named(scan: Pipeline, scan_store: Store) -> None:
    with pytest.raises(DataError, match="'blank' is empty"):
        search(scan, scan_store, [TextItem("blank", "  ")])
    with pytest.raises(DataError, match="there is no query"):
        search(scan, scan_store, [])
    with pytest.raises(DataError, match="top_k is 0"):
        search(scan, scan_store, QUERIES, top_k=0)
    with pytest.raises(DataError, match="1 of 2 queries of the run have no text, the first: 'z'"):
        rerank(scan, scan_store, Run(("a", "z"), [["p0.png"], ["p0.png"]], [[1.0], [1.0]]), QUERIES)
    with pytest.raises(StoreError, match="holds no image 'nowhere.png'"):
        rerank(scan, scan_store, Run(("a",), [["nowhere.png"]], [[1.0]]), QUERIES)
    with pytest.raises(DataError, match="'a' has a candidate twice"):
        rerank(scan, scan_store, Run(("a",), [["p0.png", "p0.png"]], [[1.0, 0.0]]), QUERIES)


def test_more_answers_than_images(scan: Pipeline, scan_store: Store) -> None:
    assert len(search(scan, scan_store, QUERIES[:1], top_k=50).ids[0]) == 10


def test_an_image_finds_texts_by_the_full_similarity(scan: Pipeline, pictures: Path) -> None:
    images = [load_image(pictures / name) for name in ("p1.png", "p2.png")]
    items = [*QUERIES, TextItem("c", "蓝地，缠枝莲纹")]  # scores as the first does, and comes after it
    run = search_texts(scan, images, ["one", "two"], items, top_k=2)
    scores = scan.score(scan.encode_images(images, ["one", "two"]), scan.encode_texts(items))
    for line, ids, found in zip(scores, run.ids, run.scores):
        order = sorted(range(3), key=lambda i: -float(line[i]))[:2]
        assert ids == [items[i].id for i in order]
        assert found == pytest.approx([float(line[i]) for i in order])
    with pytest.raises(DataError, match="text id 'a' occurs twice"):
        search_texts(scan, images[:1], ["one"], [QUERIES[0], QUERIES[0]])
    with pytest.raises(DataError, match="there are no texts"):
        search_texts(scan, images[:1], ["one"], [])
    with pytest.raises(DataError, match="there is no query"):
        search_texts(scan, [], [], QUERIES)


def test_a_picture_without_regions_is_a_hit_without_answers(
    scan: Pipeline, scan_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a detector that found nothing leaves in a store; respond() would ask for the best of no regions.
    searcher = Searcher(scan, scan_store)
    bare = search(scan, scan_store, QUERIES[:1], top_k=2).ids[0][0]
    of_one = one_image

    def without(features: ImageFeatures, row: int) -> ImageFeatures:
        image = of_one(features, row)
        if image.ids == (bare,):
            dim = image.global_features.shape[1]
            image.regions = Ragged(torch.empty(0, dim), torch.tensor([0, 0]))
            image.boxes = torch.empty(0, 4)
        return image

    monkeypatch.setattr("heritage_align.search.searcher.one_image", without)
    [(first, second)] = searcher.hits(QUERIES[:1], top_k=2)
    assert (first.id, first.regions) == (bare, ())
    assert len(second.regions) == 2
