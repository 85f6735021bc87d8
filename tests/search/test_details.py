"""A detail finds the pictures that show it, and says where; every number is that of a plain product of all vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from heritage_align.data import load_image
from heritage_align.errors import DataError, StoreError
from heritage_align.indexing import build_index
from heritage_align.pipeline import Pipeline, dataset_sources
from heritage_align.recipes import load_recipe
from heritage_align.search import Detail, Searcher
from heritage_align.search.details import MARGINS, encode_details, set_into_squares
from heritage_align.search.regions import RegionQuery, RegionSearch
from heritage_align.store import Store
from heritage_align.testing import samples
from heritage_align.types import ImageFeatures

DIM = 16  # of the tiny checkpoint
COUNTS = (3, 1, 6, 2, 4, 5, 2)
MASKED = (1, 5, 6, 14, 22)


def features(*, masked: bool) -> ImageFeatures:
    images = samples.image_features(COUNTS, DIM)
    keep = torch.ones(sum(COUNTS), dtype=torch.bool)
    keep[list(MASKED)] = False
    return replace(images, keep=keep) if masked else images


def query(parts: int, seed: int = 0) -> RegionQuery:
    vectors = torch.randn(parts, DIM, generator=torch.Generator().manual_seed(seed))
    names = [f"part {number}" for number in range(parts)]
    return RegionQuery.of([(names, torch.nn.functional.normalize(vectors, dim=1), 1.0)])


def expected(store: Store, asked: RegionQuery, *, masked: bool) -> torch.Tensor:
    """Score every image by loops over regions."""
    images = store.gather(torch.arange(len(store)))
    assert images.regions is not None
    keep = torch.ones(sum(COUNTS), dtype=torch.bool)
    if masked:
        keep[list(MASKED)] = False
    scores, first = [], 0
    for row, count in enumerate(COUNTS):
        regions = images.regions.item(row).float()[keep[first : first + count]]
        scores.append(sum(w * float((regions @ v).max()) for v, w in zip(asked.vectors, asked.weights.tolist())))
        first += count
    return torch.tensor(scores)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("parts", [1, 3])
def test_scores_and_answers_are_those_of_a_loop(
    scan: Pipeline, stored: Callable[..., Store], tmp_path: Path, masked: bool, dtype: str, parts: int
) -> None:
    store = stored(features(masked=masked), tmp_path / "store", dtype, 3)
    among, asked = RegionSearch(store, scan.index, torch.device("cpu")), query(parts)
    wanted = expected(store, asked, masked=masked)
    torch.testing.assert_close(among.score(asked, torch.arange(7)), wanted, atol=2e-3, rtol=0)
    rows, scores = among.best(asked, 7, 7)
    assert rows.tolist() == wanted.argsort(descending=True, stable=True).tolist()
    torch.testing.assert_close(scores, wanted[rows], atol=2e-3, rtol=0)
    for row, score, answers in zip(rows.tolist(), scores.tolist(), among.answers(asked, rows)):
        assert [name for name, _, _ in answers] == list(asked.names)
        assert sum(cosine for _, _, cosine in answers) / parts == pytest.approx(score, abs=1e-5), row


@pytest.mark.parametrize("masked", [False, True])
def test_the_first_stage_of_one_part_loses_nothing(
    scan: Pipeline, stored: Callable[..., Store], tmp_path: Path, masked: bool
) -> None:
    store = stored(features(masked=masked), tmp_path / "store", "fp32", 2)
    among = RegionSearch(store, scan.index, torch.device("cpu"))
    for seed in range(30):
        asked = query(1, seed)
        best = expected(store, asked, masked=masked).argsort(descending=True, stable=True).tolist()
        for depth in range(1, 8):
            # The best two regions may be of one image: it looks deeper until there are as many images as asked for.
            assert set(best[:depth]) <= set(among.candidates(asked, depth).tolist())
            assert among.best(asked, depth, 1)[0].tolist() == best[:depth]


def test_an_image_without_regions_is_no_answer(scan: Pipeline, stored: Callable[..., Store], tmp_path: Path) -> None:
    store = stored(samples.image_features((2, 0, 3), DIM), tmp_path / "store", "fp32", 2)
    among = RegionSearch(store, scan.index, torch.device("cpu"))
    assert sorted(among.best(query(2), 10, 10)[0].tolist()) == [0, 2]


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve plain pictures of their own colours; numbers 2 and 9 show a white ring on brown, at two places."""
    folder = tmp_path_factory.mktemp("marked")
    generator = np.random.default_rng(5)
    for number in range(12):
        colour = (120, 70, 40) if number in (2, 9) else tuple(generator.integers(0, 256, 3).tolist())
        picture = Image.new("RGB", (240, 240), colour)
        draw = ImageDraw.Draw(picture)
        if number in (2, 9):
            x, y = (40, 40) if number == 2 else (200, 120)
            draw.ellipse((x - 32, y - 32, x + 32, y + 32), outline="white", width=12)
        picture.save(folder / f"第{number}号.png")
    return folder


@pytest.fixture(scope="module")
def windows(marked: Path, tmp_path_factory: pytest.TempPathFactory) -> Searcher:
    data = f"data={{name: folder, folder: {marked}}}"
    pipeline = Pipeline(load_recipe("late-interaction", ["runtime.device=cpu", data]))
    folder = tmp_path_factory.mktemp("windows") / "store"
    build_index(pipeline, list(dataset_sources(pipeline.dataset())), folder)
    return Searcher.open(pipeline, folder)


def test_a_cut_out_finds_the_other_picture_and_the_place(windows: Searcher, marked: Path) -> None:
    picture = load_image(marked / "第2号.png")
    box = (4.0, 4.0, 76.0, 76.0)
    for detail in (Detail(picture, "ring", box), Detail(picture.crop((4, 4, 76, 76)), "ring")):
        hits = windows.search_details([detail], top_k=3)
        assert {hit.id for hit in hits[:2]} == {"第2号.png", "第9号.png"}
        [(name, (x0, y0, x1, y1), score)] = next(hit for hit in hits if hit.id == "第9号.png").regions
        assert name == "ring"
        assert x0 < 200 / 240 < x1
        assert y0 < 120 / 240 < y1
        assert score == pytest.approx(next(hit.score for hit in hits if hit.id == "第9号.png"), abs=1e-5)
    same = [[(h.id, h.score) for h in windows.search_details([d])] for d in (detail, Detail(picture, "x", box))]
    assert same[0] == same[1]  # a box of a picture is the cut-out


@pytest.mark.parametrize("text", ["白色的环", "a white ring"])
def test_a_text_besides_weighs_as_it_is_told(windows: Searcher, marked: Path, text: str) -> None:
    detail = Detail(load_image(marked / "第2号.png"), "ring", (4, 4, 76, 76))
    alone = {hit.id: hit.score for hit in windows.search_details([detail], top_k=12)}
    none = {hit.id: hit.score for hit in windows.search_details([detail], text=text, weight=0, top_k=12)}
    assert none == alone
    words = {hit.id: hit for hit in windows.search_details([detail], text=text, weight=1, top_k=12)}
    both = {hit.id: hit for hit in windows.search_details([detail], text=text, weight=0.25, top_k=12)}
    assert {len(hit.regions) for hit in words.values()} == {1}
    for image_id, hit in both.items():
        assert [name for name, _, _ in hit.regions] == ["ring", text]
        assert hit.score == pytest.approx(0.75 * alone[image_id] + 0.25 * words[image_id].score, abs=1e-5)
        assert hit.score == pytest.approx(0.75 * hit.regions[0][2] + 0.25 * hit.regions[1][2], abs=1e-5)


def test_whole_pictures_take_a_text_too(windows: Searcher, marked: Path) -> None:
    picture = load_image(marked / "第2号.png")
    [alone] = windows.search_images([picture], ["q"], top_k=12).to_dict().values()
    [words] = windows.search_images([picture], ["q"], text="一个环", weight=1, top_k=12).to_dict().values()
    [both] = windows.search_images([picture], ["q"], text="一个环", weight=0.5, top_k=12).to_dict().values()
    for image_id, score in both.items():
        assert score == pytest.approx((alone[image_id] + words[image_id]) / 2, abs=1e-5)


def test_several_details_are_asked_together(windows: Searcher, marked: Path) -> None:
    picture = load_image(marked / "第2号.png")
    one, other = Detail(picture, "ring", (4, 4, 76, 76)), Detail(load_image(marked / "第5号.png"), "plain")
    scores = [{h.id: h.score for h in windows.search_details([d], top_k=12)} for d in (one, other)]
    for hit in windows.search_details([one, other], top_k=12):
        assert [name for name, _, _ in hit.regions] == ["ring", "plain"]
        assert hit.score == pytest.approx((scores[0][hit.id] + scores[1][hit.id]) / 2, abs=1e-5)


def test_a_hit_names_the_box_of_its_best_region(windows: Searcher, marked: Path) -> None:
    detail = Detail(load_image(marked / "第9号.png"), "ring", (160, 80, 240, 160))
    with torch.inference_mode():
        [vector] = encode_details(windows.pipeline, [detail])
    hits = windows.search_details([detail], top_k=12)
    assert len({hit.regions[0][1] for hit in hits}) > 3
    for hit in hits:
        images = windows.store.gather(torch.tensor([windows.store.row(hit.id)]))
        assert images.regions is not None
        assert images.boxes is not None
        cosines = images.regions.item(0).float() @ vector
        [(_, box, cosine)] = hit.regions
        assert box == tuple(images.boxes[int(cosines.argmax())].tolist())
        assert cosine == pytest.approx(float(cosines.max()), abs=1e-5)


def test_more_like_a_region_of_the_store(windows: Searcher) -> None:
    images = windows.store.gather(torch.tensor([windows.store.row("第2号.png")]))
    assert images.boxes is not None
    box = images.boxes[1].tolist()  # the upper left quarter, which holds the ring
    by_number = windows.search_regions([("第2号.png", 1)], top_k=11)
    by_box = windows.search_regions([("第2号.png", box)], top_k=11)
    assert [(hit.id, hit.score) for hit in by_number] == [(hit.id, hit.score) for hit in by_box]
    assert by_number[0].id == "第9号.png"
    assert "第2号.png" not in {hit.id for hit in by_number}
    assert len(by_number) == 11
    both = windows.search_regions([("第2号.png", 1), ("第9号.png", 0)], top_k=12)
    assert {"第2号.png", "第9号.png"}.isdisjoint(hit.id for hit in both)
    assert len(both) == 10


def test_squares_hold_the_detail_in_the_middle_on_the_colour_of_its_edge() -> None:
    picture = Image.new("RGB", (30, 10), (10, 200, 30))
    picture.paste((255, 0, 0), (10, 3, 20, 7))
    views = set_into_squares(picture)
    assert [view.size for view in views] == [(round(30 * m),) * 2 for m in MARGINS]
    for view in views:
        side = view.width
        assert view.getpixel((0, 0)) == (10, 200, 30)
        assert view.getpixel((side // 2, side // 2)) == (255, 0, 0)
    assert [view.size for view in set_into_squares(Image.new("RGB", (1, 1)))] == [(1, 1), (1, 1), (2, 2)]


def test_a_scan_is_made_smaller_and_left_as_it_was() -> None:
    picture = Image.new("RGB", (5000, 1000), (1, 2, 3))
    assert [view.size for view in set_into_squares(picture)] == [(2048, 2048), (2662, 2662), (3277, 3277)]
    assert picture.size == (5000, 1000)
    clear = Image.new("RGBA", (20, 10), (200, 0, 0, 128))
    assert {view.mode for view in set_into_squares(clear)} == {"RGB"}


def test_vectors_are_those_of_the_mean_of_the_squares(scan: Pipeline, pictures: Path) -> None:
    picture = load_image(pictures / "p1.png")
    with torch.inference_mode():
        [vector] = encode_details(scan, [Detail(picture, box=(3, 4, 40, 30))])
        pixels = torch.stack([scan.encoder.prepare(v) for v in set_into_squares(picture.crop((3, 4, 40, 30)))])
        mean = scan.encoder.encode_pixels(pixels).global_features.mean(0)
    torch.testing.assert_close(vector, mean / mean.norm(), atol=1e-5, rtol=0)


def test_boxes_are_pooled_where_the_store_s_regions_are(pictures: Path) -> None:
    overrides = ["encoder.regions=roi", "proposer={name: patch_grid, mode: windows, scales: [1, 2]}"]
    pipeline = Pipeline(load_recipe("late-interaction", ["runtime.device=cpu", *overrides]))
    picture = load_image(pictures / "p1.png")
    width, height = picture.size
    quarter = (0.0, 0.0, float(np.ceil(width / 2)), float(np.ceil(height / 2)))  # as windows have whole pixels
    with torch.inference_mode():
        vectors = encode_details(pipeline, [Detail(picture, box=quarter), Detail(picture)])
        regions = pipeline.encode_images([picture], ["p"]).regions
    assert regions is not None
    torch.testing.assert_close(vectors, regions.values[[1, 0]], atol=1e-5, rtol=0)


class TestBadInput:
    @pytest.mark.parametrize(
        "box", [(300, 0, 400, 10), (0, 0, 0, 10), (-9, -9, 0, 5), (5, 5, 2, 9), (0, 0, float("nan"), 1)]
    )
    def test_boxes_outside(self, windows: Searcher, marked: Path, box: Any) -> None:
        with pytest.raises(DataError, match="ring: box .* has no area within the picture of 240 x 240"):
            windows.search_details([Detail(load_image(marked / "第2号.png"), "ring", box)])

    def test_a_box_of_three_numbers(self, windows: Searcher, marked: Path) -> None:
        box: Any = (1, 2, 3)
        with pytest.raises(DataError, match=r"ring: a box is four numbers.*got \(1, 2, 3\)"):
            windows.search_details([Detail(load_image(marked / "第2号.png"), "ring", box)])

    def test_a_box_over_the_edge_is_cut(self, marked: Path) -> None:
        picture = load_image(marked / "第2号.png")
        assert Detail(picture, "r", (-5, 200, 60, 999)).crop().size == (60, 40)

    def test_numbers_and_nothing(self, windows: Searcher, marked: Path) -> None:
        detail = Detail(load_image(marked / "第2号.png"), "ring")
        nothing: Any = []
        picture: Any = [load_image(marked / "第2号.png")]
        for wrong in (nothing, picture):
            with pytest.raises(DataError, match="expected a list of at least one Detail"):
                windows.search_details(wrong)
        for weight in (-0.1, 1.1, float("nan")):
            with pytest.raises(DataError, match="weight is"):
                windows.search_details([detail], text="环", weight=weight)
            with pytest.raises(DataError, match="weight is"):
                windows.search_images([detail.image], ["q"], text="环", weight=weight)
        with pytest.raises(DataError, match="is empty"):
            windows.search_details([detail], text=" 　")
        with pytest.raises(DataError, match="top_k is 0"):
            windows.search_details([detail], top_k=0)
        with pytest.raises(DataError, match="candidates is -3"):
            windows.search_regions([("第2号.png", 1)], candidates=-3)

    def test_regions_that_are_not_there(self, windows: Searcher) -> None:
        with pytest.raises(StoreError, match="holds no image 'x.png'"):
            windows.search_regions([("x.png", 0)])
        for region in (14, -1, (0.1, 0.1, 0.2, 0.2), (0.0, 1.0), 0.5, (float("nan"),) * 4):
            asked: Any = region
            with pytest.raises(DataError, match="image '第2号.png': none of its 14 regions, from 0, is "):
                windows.search_regions([("第2号.png", asked)])
        with pytest.raises(DataError, match="no region to search more of"):
            windows.search_regions([])

    def test_a_store_without_regions(self, marked: Path, tmp_path: Path) -> None:
        data = f"data={{name: folder, folder: {marked}}}"
        pipeline = Pipeline(load_recipe("global", ["runtime.device=cpu", data]))
        build_index(pipeline, list(dataset_sources(pipeline.dataset())), tmp_path / "store")
        detail = Detail(load_image(marked / "第2号.png"))
        with pytest.raises(StoreError, match=r"has no regions .*recipe late-interaction .*--whole"):
            Searcher.open(pipeline, tmp_path / "store").search_details([detail])

    def test_damage_is_named(self, scan: Pipeline, stored: Callable[..., Store], tmp_path: Path) -> None:
        images = features(masked=False)
        assert images.regions is not None
        images.regions.values[12] = torch.nan
        store = stored(images, tmp_path / "store", "fp32", 3)
        with pytest.raises(StoreError, match=r"shard-00001\.safetensors: image 'image-4' scores nan"):
            RegionSearch(store, scan.index, torch.device("cpu")).best(query(1), 3, 3)
