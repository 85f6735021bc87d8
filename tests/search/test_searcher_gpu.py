"""A searcher on a GPU: what stays there and what passes through it scores as on the CPU, from several threads too."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from heritage_align.pipeline import Pipeline
from heritage_align.search import Detail, Searcher
from heritage_align.search.scoring import GatheredScorer
from heritage_align.store import Store
from heritage_align.testing import samples
from heritage_align.types import Hit, ImageFeatures, TextFeatures, TextItem

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]
DIM = 16
TOLERANCE = 1e-4  # of the kernels on fp16 rows
COUNTS = [2 + i % 5 for i in range(60)]


def on_gpu(texts: TextFeatures) -> TextFeatures:
    assert texts.fragments is not None
    return replace(texts, global_features=texts.global_features.cuda(), fragments=texts.fragments.to(device="cuda"))


@pytest.fixture(scope="module")
def store(stored: Callable[..., Store], tmp_path_factory: pytest.TempPathFactory) -> Store:
    images: ImageFeatures = samples.image_features(COUNTS, DIM)
    return stored(images, tmp_path_factory.mktemp("gpu") / "store", "fp16", 7)


@pytest.mark.parametrize(
    "similarity",
    [{"name": "scan"}, {"name": "late_interaction"}, {"name": "laclip", "conditioning": "text", "global_mix": 0.3}],
)
@pytest.mark.parametrize("memory", ["0B", "2KB", "1GiB"])
def test_scores_are_those_of_the_cpu(
    scan: Pipeline, store: Store, similarity: dict[str, object], memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heritage_align.search.streaming.CHUNK_BYTES", 2000)  # many chunks, both slots reused
    document = {**scan.config.as_dict(), "similarity": similarity}
    here = Pipeline.from_config(document)
    there = Pipeline.from_config(document, ["runtime.device=cuda", f"runtime.device_memory={memory}"])
    texts = samples.text_features((2, 1, 4, 3), DIM)
    # Kernels on a GPU round words to the regions' type: here they are of that type already.
    words, whole = texts.fragments, texts.global_features.half().float()
    assert words is not None
    texts = replace(texts, global_features=whole, fragments=words.to(dtype=torch.float16).to(dtype=torch.float32))
    rows = torch.randint(-1, len(store), (4, 50), generator=torch.Generator().manual_seed(0))
    searcher = Searcher(there, store)
    expected = GatheredScorer(here, store)
    torch.testing.assert_close(searcher.score(on_gpu(texts), rows), expected.score(texts, rows), atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(searcher.score_all(on_gpu(texts)), expected.score_all(texts), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("memory", ["0B", "4KB", "1GiB"])
def test_threads_get_what_one_gets(scan: Pipeline, store: Store, memory: str) -> None:
    overrides = ["runtime.device=cuda", f"runtime.device_memory={memory}"]
    searcher = Searcher(Pipeline.from_config(scan.config.as_dict(), overrides), store)
    items = [TextItem(f"q{i}", f"缠枝莲，龙{i}") for i in range(16)]
    alone = [searcher.search([item], top_k=5, candidates=40) for item in items]
    answers: dict[int, object] = {}

    def ask(number: int) -> None:
        answers[number] = searcher.search([items[number]], top_k=5, candidates=40)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(items))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answers[number] for number in range(len(items))] == alone


def test_the_cpu_gives_the_same_answers(scan: Pipeline, store: Store) -> None:
    there = Searcher(Pipeline.from_config(scan.config.as_dict(), ["runtime.device=cuda"]), store)
    items = [TextItem("a", "蓝地，缠枝莲纹"), TextItem("b", "a red dragon")]
    ours, theirs = Searcher(scan, store).hits(items, candidates=60), there.hits(items, candidates=60)
    for line, others in zip(ours, theirs):
        # Here words come from the encoder in fp32, and the GPU's kernels round them to fp16.
        assert [hit.score for hit in line] == pytest.approx([hit.score for hit in others], abs=1e-3)
        for hit, other in zip(line, others):
            if hit.id != other.id:
                continue  # two scores within the rounding
            for (phrase, box, score), (their_phrase, their_box, their_score) in zip(hit.regions, other.regions):
                assert (phrase, box) == (their_phrase, their_box)
                assert score == pytest.approx(their_score, abs=1e-5)  # plain products in fp32
            assert len(hit.regions) == len(other.regions) > 0


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "int8"])
def test_details_find_what_they_find_on_the_cpu(
    scan: Pipeline, stored: Callable[..., Store], tmp_path: Path, dtype: str
) -> None:
    images = samples.image_features(COUNTS, DIM)
    keep = torch.arange(sum(COUNTS)) % 5 != 0
    kept = stored(replace(images, keep=keep), tmp_path / "store", dtype, 7)
    there = Searcher(Pipeline.from_config(scan.config.as_dict(), ["runtime.device=cuda"]), kept)
    details = [Detail(Image.new("RGB", (40, 30), "red")), Detail(Image.new("RGB", (9, 50), "blue"), "second")]

    def ask(searcher: Searcher, weight: float | None) -> list[Hit]:
        if weight is None:
            return searcher.search_regions([(kept.ids[9], 1), (kept.ids[3], 0)], top_k=8)
        return searcher.search_details(details, text="红龙", weight=weight, top_k=8)

    for weight in (None, 0.0, 0.4, 1.0):
        ours, theirs = ask(Searcher(scan, kept), weight), ask(there, weight)
        # The GPU's kernel rounds what is asked to fp16, as it is stored.
        assert [hit.score for hit in theirs] == pytest.approx([hit.score for hit in ours], abs=2e-3)
        answers = {hit.id: [box for _, box, _ in hit.regions] for hit in ours}
        common = [hit for hit in theirs if hit.id in answers]
        assert len(common) >= 6
        assert all([box for _, box, _ in hit.regions] == answers[hit.id] for hit in common)
