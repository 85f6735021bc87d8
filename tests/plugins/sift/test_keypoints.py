"""A detail is found by its shape: in other colours, larger and turned; places, errors, and who is asked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result
from heritage_align_plugins.sift.keypoints import KeypointReranker, box_of
from heritage_align_plugins.sift.keypoints_config import KeypointsConfig
from heritage_align_plugins.sift.matching import NOTHING, Fit, Keypoints, Matches, agreed, matches_of
from PIL import Image, ImageDraw

from heritage_align import plugins
from heritage_align.cli import cli
from heritage_align.errors import ConfigError, DataError, Note, PluginError
from heritage_align.pipeline import Pipeline
from heritage_align.protocols import BuildContext, DetailReranker, Reranker
from heritage_align.recipes import load_recipe
from heritage_align.search import Detail, Searcher
from heritage_align.search.last_look import LastLook
from heritage_align.testing import Case, check_component
from heritage_align.types import Hit, Match, Run, TextItem

Colour = tuple[int, int, int]
GOLD, NAVY, RED, BLACK, CREAM, GREEN = (
    (250, 220, 30), (40, 40, 120), (200, 60, 60), (20, 20, 20), (240, 230, 200), (30, 110, 60)
)  # fmt: skip
KEYPOINTS = "search.last={name: keypoints}"
SIDE, WIDTH, HEIGHT = 96, 260, 200


def reranker(**settings: Any) -> KeypointReranker:
    return KeypointReranker(KeypointsConfig(**settings), BuildContext())


def shape(fill: Colour, ground: Colour) -> Image.Image:
    """Return a figure with corners, holes and no symmetry."""
    picture = Image.new("RGB", (4 * SIDE, 4 * SIDE), ground)
    draw = ImageDraw.Draw(picture)
    draw.polygon([(40, 320), (120, 60), (192, 200), (280, 32), (352, 240), (240, 352), (180, 280)], fill=fill)
    draw.ellipse((100, 160, 160, 220), fill=ground)
    draw.rectangle((232, 200, 288, 256), fill=ground)
    draw.line((48, 80, 320, 360), fill=ground, width=20)
    return picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def showing(
    fill: Colour, ground: Colour, scale: float, degrees: float, at: tuple[int, int]
) -> tuple[Image.Image, tuple[float, ...]]:
    """Return a picture of WIDTH x HEIGHT that shows the figure with its middle at a place, and the box around it."""
    side = round(SIDE * scale)
    turned = shape(fill, ground).resize((side, side), Image.Resampling.LANCZOS)
    turned = turned.rotate(degrees, Image.Resampling.BICUBIC, expand=True, fillcolor=ground)
    picture = Image.new("RGB", (WIDTH, HEIGHT), ground)
    picture.paste(turned, (at[0] - turned.width // 2, at[1] - turned.height // 2))
    angle = np.deg2rad(degrees)
    half = side * (abs(np.cos(angle)) + abs(np.sin(angle))) / 2
    middle = at[0] - turned.width // 2 + turned.width / 2, at[1] - turned.height // 2 + turned.height / 2
    return picture, (middle[0] - half, middle[1] - half, middle[0] + half, middle[1] + half)


def distractor(seed: int) -> Image.Image:
    draws = np.random.default_rng(seed)
    picture = Image.new("RGB", (WIDTH, HEIGHT), tuple(draws.integers(0, 256, 3).tolist()))
    draw = ImageDraw.Draw(picture)
    for number in range(12):
        x, y, w, h = (int(value) for value in draws.integers((0, 0, 15, 15), (230, 170, 60, 60)))
        figure = draw.rectangle if number % 2 else draw.ellipse
        figure((x, y, x + w, y + h), fill=tuple(draws.integers(0, 256, 3).tolist()))
    return picture


DETAIL = shape(GOLD, NAVY)
LARGE, LARGE_BOX = showing(BLACK, RED, 1.5, 30, (130, 100))  # darker than its ground
SMALL, SMALL_BOX = showing(CREAM, GREEN, 0.8, -100, (60, 140))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pictures; 3 and 7 show the figure of DETAIL."""
    path = tmp_path_factory.mktemp("figures")
    for number in range(10):
        picture = {3: LARGE, 7: SMALL}.get(number) or distractor(number)
        picture.save(path / f"{number}.png")
    DETAIL.save(tmp_path_factory.mktemp("query") / "detail.png")
    return path


@pytest.fixture(scope="module")
def store(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("figures") / "store"
    done = run("index", "build", "late-interaction", "--data", folder, "--out", path, "--set", "runtime.device=cpu")
    assert done.exit_code == 0, done.output
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, list(map(str, arguments)))


def pipeline(folder: Path, *overrides: str) -> Pipeline:
    data = f"data={{name: folder, folder: {folder}}}"
    return Pipeline(load_recipe("late-interaction", ["runtime.device=cpu", data, *overrides]))


@pytest.fixture(scope="module")
def searcher(folder: Path, store: Path) -> Searcher:
    return Searcher.open(pipeline(folder, KEYPOINTS), store)


class TestThePlugin:
    def test_it_keeps_the_contract(self) -> None:
        results = check_component(Case("reranker", "keypoints"))
        states = {result.check: result.state for result in results}
        assert states["check_a_copy_is_found"] == "passed"
        assert states["check_ratings"] == "skipped"
        assert isinstance(reranker(), DetailReranker)
        assert not isinstance(reranker(), Reranker)

    @pytest.mark.parametrize(("picture", "box"), [(LARGE, LARGE_BOX), (SMALL, SMALL_BOX)])
    def test_the_place_is_known_to_two_pixels(self, picture: Image.Image, box: tuple[float, ...]) -> None:
        [match] = reranker().compare(DETAIL, [picture])
        assert match.score >= 15  # one accident in 10^15
        assert match.box == pytest.approx(box, abs=2)

    def test_the_figure_scores_above_everything_else(self) -> None:
        pictures = [LARGE, SMALL, *map(distractor, range(8))]
        scores = [match.score for match in reranker().compare(DETAIL, pictures)]
        assert min(scores[:2]) > 3 * max(scores[2:])

    def test_a_figure_that_is_shown_twice_is_found(self) -> None:
        places = ((5, 30), (150, 90))
        once, twice = (Image.new("RGB", (WIDTH, HEIGHT), NAVY) for _ in range(2))
        once.paste(DETAIL, places[0])
        for place in places:
            twice.paste(DETAIL, place)
        one, match = reranker().compare(DETAIL, [once, twice])
        assert match.score > 0.8 * one.score
        assert match.box is not None
        nearest = min(places, key=lambda place: abs(place[0] - match.box[0]))
        assert match.box == pytest.approx((*nearest, nearest[0] + SIDE, nearest[1] + SIDE), abs=2)

    def test_a_box_over_the_edge_is_cut(self) -> None:
        picture, (x0, y0, x1, _) = showing(GOLD, NAVY, 1.5, 0, (130, 170))
        [match] = reranker().compare(DETAIL, [picture])
        assert match.box == pytest.approx((x0, y0, x1, HEIGHT), abs=2)
        assert box_of(Fit(9, 1.0, 500.0), (10, 10), (300, 400)) is None
        assert box_of(NOTHING, (10, 10), (300, 400)) is None

    def test_a_scan_is_looked_at_in_a_smaller_size(self) -> None:
        scan = LARGE.resize((10 * WIDTH, 10 * HEIGHT), Image.Resampling.BICUBIC)
        assert reranker(max_pixels=250_000)._grey(scan).shape == (439, 570)
        [match] = reranker(max_pixels=250_000).compare(DETAIL, [scan])
        assert match.box == pytest.approx([10 * x for x in LARGE_BOX], abs=30)  # four pixels of what is looked at
        scroll = Image.new("RGB", (60_000, 100))
        assert reranker()._grey(scroll).size <= 310_000

    @pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "1", "P", "CMYK", "I;16"])
    def test_what_has_no_keypoints_scores_nothing(self, mode: str) -> None:
        sizes = ((1, 1), (3, 400), (15, 15), (64, 64), (1, 9000))
        flat = [Image.new(mode, size) for size in sizes]
        looking = reranker()
        assert looking.compare(DETAIL, flat) == [Match(0.0, None)] * len(flat)
        assert all(looking.compare(one, [DETAIL]) == [Match(0.0, None)] for one in flat)
        assert looking.compare(DETAIL, []) == []

    def test_what_was_looked_at_before_changes_nothing(self) -> None:
        looking, before = reranker(), cv2.getNumThreads()
        wanted = looking.compare(DETAIL, [LARGE, SMALL])
        cv2.setRNGSeed(5)
        looking.compare(LARGE, [distractor(3)])
        assert looking.compare(DETAIL, [SMALL, distractor(1), LARGE])[::-2] == wanted
        assert reranker().compare(DETAIL, [LARGE, SMALL]) == wanted
        assert cv2.getNumThreads() == before

    def test_keypoints_are_kept_of_the_last_pictures(self, monkeypatch: pytest.MonkeyPatch) -> None:
        looking, none, looked = reranker(kept=2), reranker(kept=0), []
        for one in (looking, none):
            find = one._keypoints
            monkeypatch.setattr(one, "_keypoints", lambda grey, find=find: looked.append(grey.shape) or find(grey))
        wanted = none.compare(DETAIL, [LARGE, SMALL])
        assert len(looked) == 3
        for expected, pictures in ((3, [LARGE, SMALL]), (1, [SMALL, LARGE]), (2, [DETAIL]), (1, [LARGE]), (2, [SMALL])):
            looked.clear()
            found = looking.compare(DETAIL, pictures)
            assert len(looked) == expected  # the detail, and the pictures that are not kept
        assert found == wanted[1:]
        none.compare(DETAIL, [SMALL])
        assert len(looked) == 4

    def test_light_and_dark_are_exchanged_without_looking_again(self) -> None:
        negative = Image.fromarray(255 - np.asarray(DETAIL))
        looking = reranker()
        there, known = looking._keypoints(looking._grey(negative)), looking._keypoints(looking._grey(DETAIL)).inverted()
        assert len(there) == len(known)
        far = np.abs(known.points[:, None] - there.points) + np.abs(known.frames[:, None] - there.frames)
        assert far.min(axis=1).max() < 0.1
        cosines = (known.descriptors * there.descriptors[far.argmin(axis=1)]).sum(axis=1)
        assert cosines.min() > 0.99

    def test_the_fingerprint_has_what_scores_depend_on(self) -> None:
        changes = {
            "ratio": 0.7,
            "least": 2.0,
            "tolerance": 0.1,
            "keypoints": 100,
            "contrast_threshold": 0.1,
            "max_pixels": 256,
        }
        names = {reranker(**{key: value}).fingerprint() for key, value in changes.items()}
        assert len(names | {reranker().fingerprint()}) == 7
        assert reranker(candidates=3, kept=3).fingerprint() == reranker().fingerprint()


class TestTheTransform:
    def keypoints(self, points: np.ndarray[Any, Any], frames: np.ndarray[Any, Any]) -> Keypoints:
        return Keypoints(points, frames, np.eye(len(points), 128, dtype=np.float32))

    def test_it_is_recovered_among_wrong_matches(self) -> None:
        draws = np.random.default_rng(0)
        here = draws.uniform(0, 80, 40) + 1j * draws.uniform(0, 80, 40)
        factor, shift = 1.4 * np.exp(0.7j), 30 + 12j
        there = factor * here + shift
        frames = factor * np.exp(draws.normal(0, 0.1, 40) + 1j * draws.normal(0, 0.1, 40))
        there[20:] = draws.uniform(0, 300, 20) + 1j * draws.uniform(0, 300, 20)
        frames[20:] = np.exp(1j * draws.uniform(0, 6, 20))
        everything = Matches(np.arange(40), np.arange(40))
        own = self.keypoints(here, np.ones(40, complex))
        fit = agreed(own, self.keypoints(there, frames), everything, 2.0)
        assert fit.agree >= 20
        assert fit.factor == pytest.approx(factor, abs=0.02)
        assert fit.shift == pytest.approx(shift, abs=1)
        again = agreed(own, self.keypoints(there, frames), Matches(np.arange(40)[::-1], np.arange(40)[::-1]), 2.0)
        assert again.agree == fit.agree

    def test_keypoints_of_one_place_count_once(self) -> None:
        here = np.repeat([1 + 1j, 40 + 2j, 20 + 50j], 5)
        frames = np.ones(15, complex)
        everything = Matches(np.arange(15), np.arange(15))
        own = self.keypoints(here, frames)
        assert agreed(own, own, everything, 2.0).agree == 3
        assert agreed(own, self.keypoints(np.full(15, 3 + 3j), frames), everything, 2.0) == NOTHING

    def test_too_few_agree_on_nothing(self) -> None:
        two = self.keypoints(np.array([0j, 30 + 9j]), np.ones(2, complex))
        assert agreed(two, two, matches_of(two, two, 0.8), 3.0) == NOTHING
        far = self.keypoints(np.arange(9) * (30 + 5j), np.full(9, 6.0 + 0j))  # six times as large
        near = self.keypoints(np.arange(9) * (5 + 5j / 6), np.ones(9, complex))
        assert agreed(near, far, Matches(np.arange(9), np.arange(9)), 1.0) == NOTHING


class TestASearch:
    def ask(self, folder: Path, store: Path, tmp_path: Path, *more: object) -> Result:
        DETAIL.save(tmp_path / "detail.png")
        return run(
            *("search", "late-interaction", "--store", store, "--image", tmp_path / "detail.png"),
            *("--data", folder, "--set", "runtime.device=cpu", *more),
        )

    def test_the_figure_comes_first_and_its_place_is_said(self, folder: Path, store: Path, tmp_path: Path) -> None:
        done = self.ask(folder, store, tmp_path, "--set", KEYPOINTS, "--json")
        assert done.exit_code == 0, done.output
        hits = json.loads(done.stdout)["hits"]
        assert {hit["id"] for hit in hits[:2]} == {"3.png", "7.png"}
        assert [hit["last"] for hit in hits] == sorted((hit["last"] for hit in hits), reverse=True)
        boxes = {hit["id"]: hit["regions"][0]["box"] for hit in hits}
        for image_id, box in (("3.png", LARGE_BOX), ("7.png", SMALL_BOX)):
            fractions = [value / size for value, size in zip(box, (WIDTH, HEIGHT) * 2)]
            assert boxes[image_id] == pytest.approx(fractions, abs=2 / HEIGHT)
        shown = self.ask(folder, store, tmp_path, "--set", KEYPOINTS, "--top-k", 2)
        assert shown.stdout.count("  last ") == 2

    def test_the_recipe_asks_a_store_of_windows(self, folder: Path, store: Path, tmp_path: Path) -> None:
        DETAIL.save(tmp_path / "detail.png")
        asked = ("search", "keypoints-last", "--store", store, "--image", tmp_path / "detail.png", "--top-k", 2)
        done = run(*asked, "--data", folder, "--json")
        assert done.exit_code == 0, done.output
        assert {hit["id"] for hit in json.loads(done.stdout)["hits"]} == {"3.png", "7.png"}
        again = run(*asked, "--json")  # the recipe's data set is another collection; the store knows its own
        assert json.loads(again.stdout)["hits"] == json.loads(done.stdout)["hits"]

    def test_a_text_is_refused_in_one_line(self, folder: Path, store: Path, tmp_path: Path) -> None:
        says = "search.last.name: 'keypoints' looks for details, and takes no texts"
        captions = tmp_path / "captions.jsonl"
        (tmp_path / "pictures").symlink_to(folder)
        captions.write_text(
            "".join(json.dumps({"image": f"pictures/{n}.png", "text": f"figure {n}"}) + "\n" for n in range(10))
        )
        before = tmp_path / "before.trec"
        before.write_text("".join(f"q Q0 {number}.png 1 0.5 t\n" for number in range(3)))
        given = ("--data", captions, "--set", KEYPOINTS, "--set", "runtime.device=cpu")
        for arguments in (
            ("search", "late-interaction", "gold on blue", "--store", store, *given),
            ("rerank", "late-interaction", before, "--store", store, "--out", tmp_path / "after.trec", *given),
            ("evaluate", "late-interaction", *given),
            ("evaluate", "late-interaction", "--repeats", "2", *given),
        ):
            done = run(*arguments)
            assert done.exit_code == 2, done.output
            lines = [line for line in done.output.splitlines() if says in line]
            assert len(lines) == 1, done.output
            assert "Traceback" not in done.output

    def test_the_searcher_refuses_texts_and_calibrates(self, searcher: Searcher) -> None:
        item = TextItem("q", "gold on blue")
        for refused in (
            lambda: searcher.search([item]),
            lambda: searcher.hits([item]),
            lambda: searcher.rank(item, ["3.png"]),
            lambda: searcher.rerank(Run(("q",), [["3.png"]], [[1.0]]), [item]),
        ):
            with pytest.raises(ConfigError, match="takes no texts"):
                refused()
        assert searcher.search([item], last_look=False).ids

    def test_the_service_refuses_texts_in_one_sentence(self, searcher: Searcher, store: Path) -> None:
        pytest.importorskip("fastapi", reason="the optional extra 'serve' is not installed")
        from starlette.testclient import TestClient

        from heritage_align.service.app import create_app
        from heritage_align.service.served import Catalogue, Source

        with TestClient(create_app(Catalogue([Source(searcher.pipeline.config, store)]))) as client:
            answer = client.post("/search", json={"text": "gold on blue"})
            assert answer.status_code == 422
            assert "'keypoints' looks for details, and takes no texts" in answer.text
            found = client.post(
                "/search", json={"pictures": [{"id": "3.png", "boxes": [[0.12, 0.0, 0.88, 1.0]]}], "k": 2}
            )
            assert [hit["id"] for hit in found.json()["hits"]] == ["3.png", "7.png"], found.text
            assert all(hit["last"] > 5 for hit in found.json()["hits"])

    def test_what_was_found_comes_first_and_the_rest_follows(self, folder: Path, store: Path) -> None:
        plain = Searcher.open(pipeline(folder), store).search_details([Detail(DETAIL)], top_k=10)
        few = Searcher.open(pipeline(folder, "search.last={name: keypoints, candidates: 4}"), store)
        after = few.search_details([Detail(DETAIL)], top_k=10)
        assert [hit.id for hit in after[4:]] == [hit.id for hit in plain[4:]]
        assert [hit.last is None for hit in after] == [False] * 4 + [True] * 6
        assert [hit.rank for hit in after] == list(range(1, 11))
        by_id = {hit.id: hit for hit in plain}
        assert all(hit.score == by_id[hit.id].score for hit in after)
        nothing = [hit for hit in after[:4] if hit.last == 0]
        assert [hit.id for hit in nothing] == [hit.id for hit in plain[:4] if hit.id in {n.id for n in nothing}]
        assert all(hit.regions == by_id[hit.id].regions for hit in nothing)
        assert [h.id for h in few.search_details([Detail(DETAIL)], top_k=1)] == [after[0].id]

    def test_several_details_count_as_their_mean(self, searcher: Searcher) -> None:
        other = Detail(distractor(2), "other", (0, 0, 200, 200))
        alone = [{h.id: h for h in searcher.search_details([d], top_k=10)} for d in (Detail(DETAIL), other)]
        together = searcher.search_details([Detail(DETAIL), other], top_k=10)
        for hit in together:
            lasts = [one[hit.id].last for one in alone]
            assert hit.last == pytest.approx(sum(lasts) / 2)
            assert [name for name, _, _ in hit.regions] == ["detail", "other"]
            assert [box for _, box, _ in hit.regions] == [one[hit.id].regions[0][1] for one in alone]

    def test_a_box_of_a_picture_is_the_cut_out(self, searcher: Searcher) -> None:
        beside = Image.new("RGB", (300, 200), RED)
        beside.paste(DETAIL, (150, 60))
        boxed = searcher.search_details([Detail(beside, box=(150, 60, 150 + SIDE, 60 + SIDE))])
        assert boxed == searcher.search_details([Detail(DETAIL)])

    def test_a_text_besides_has_no_say_in_the_look(self, searcher: Searcher) -> None:
        alone = searcher.search_details([Detail(DETAIL)], top_k=10)
        both = searcher.search_details([Detail(DETAIL)], text="a red ground", weight=0.5, top_k=10)
        assert {hit.id: hit.last for hit in both} == {hit.id: hit.last for hit in alone}
        assert [name for name, _, _ in both[0].regions] == ["detail", "a red ground"]
        words = searcher.search_details([Detail(DETAIL)], text="a red ground", weight=1, top_k=10)
        assert all(hit.last is None for hit in words)

    def test_pictures_that_cannot_be_opened_come_after(self, folder: Path, store: Path, tmp_path: Path) -> None:
        copy = tmp_path / "copy"
        copy.mkdir()
        for file in folder.iterdir():
            (copy / file.name).write_bytes(b"no picture" if file.name == "3.png" else file.read_bytes())
        looking = Searcher.open(pipeline(copy, KEYPOINTS), store)
        with pytest.warns(Note, match=r"1 of 10 pictures are not looked at, the first: .*3\.png"):
            hits = looking.search_details([Detail(DETAIL)], top_k=10)
        assert (hits[0].id, hits[-1].id, hits[-1].last) == ("7.png", "3.png", None)
        for file in copy.iterdir():
            file.write_bytes(b"")
        with pytest.raises(DataError, match="not one of 10 pictures can be looked at"):
            looking.search_details([Detail(DETAIL)])

    def test_without_a_data_set_it_says_what_is_missing(self, store: Path, tmp_path: Path) -> None:
        DETAIL.save(tmp_path / "detail.png")
        alone = shutil.copytree(store, tmp_path / "store")
        (alone / "config.yaml").unlink()
        asked = ("search", "late-interaction", "--store", alone, "--image", tmp_path / "detail.png")
        asked += ("--set", KEYPOINTS, "--set", "runtime.device=cpu")
        for more, says in (
            (("--set", "data=null"), "no data set says where they are; add data, or --data PATH"),
            ((), "no data set has those of the store; add data, or --data PATH"),
        ):
            done = run(*asked, *more)
            assert done.exit_code == 2
            assert f"search.last: looks at pictures, and {says}" in done.output

    def test_settings_are_checked(self, folder: Path) -> None:
        for settings, says in (
            ("ratio: 1.5", "search.last.ratio: "),
            ("tolerance: 0", "search.last.tolerance: "),
            ("max_pixels: 9", "search.last.max_pixels: "),
            ("ration: 0.5", "search.last.ration: unknown key. Did you mean"),
        ):
            with pytest.raises(ConfigError) as caught:
                pipeline(folder, f"search.last={{name: keypoints, {settings}}}")
            assert says in str(caught.value)


class TestByDefault:
    """`search --image` looks where the pictures can be opened, whatever the recipe, and says why where it does not."""

    @pytest.fixture
    def asked(self, store: Path, tmp_path: Path) -> tuple[object, ...]:
        DETAIL.save(tmp_path / "detail.png")
        given = ("--image", tmp_path / "detail.png", "--set", "runtime.device=cpu", "--json", "--top-k", 10)
        return ("search", "late-interaction", "--store", store, *given)

    def hits(self, done: Result) -> list[dict[str, Any]]:
        assert done.exit_code == 0, done.output
        found: list[dict[str, Any]] = json.loads(done.stdout)["hits"]
        return found

    def test_what_shows_the_detail_comes_first(self, asked: tuple[object, ...], folder: Path) -> None:
        done = run(*asked)
        hits = self.hits(done)
        assert {hit["id"] for hit in hits[:2]} == {"3.png", "7.png"}
        assert [hit["last"] > 0 for hit in hits] == [True] * 2 + [False] * 8
        assert "note:" not in done.stderr
        assert self.hits(run(*asked, "--data", folder)) == hits
        assert self.hits(run(*asked, "--set", KEYPOINTS)) == hits
        asked_more = run(*asked, "--set", "search.last={name: keypoints, least: 1000}")
        shifted = self.hits(asked_more)
        assert [hit["last"] for hit in shifted] == [0.0] * 10  # settings of one's own are kept
        assert "note: no picture that was looked at shows the detail itself" in asked_more.stderr

    def test_a_plain_detail_is_noted(self, asked: tuple[object, ...], tmp_path: Path) -> None:
        for size, mode in (((1, 1), "RGB"), ((64, 20), "RGBA")):
            Image.new(mode, size).save(tmp_path / "detail.png")
            for more in ((), ("--no-last-look",), ("--whole",)):
                done = run(*asked, *more)
                self.hits(done)
                shown = f"detail.png is of one colour ({size[0]} x {size[1]} pixels)"
                assert shown in done.stderr
        LARGE.save(tmp_path / "detail.png")
        done = run(*asked, "--box", "0,0,1,1")
        assert f"the part of {tmp_path / 'detail.png'} is of one colour (1 x 1 pixels)" in done.stderr

    def test_a_picture_that_cannot_be_opened_is_one_line(
        self, asked: tuple[object, ...], folder: Path, tmp_path: Path
    ) -> None:
        other = shutil.copytree(folder, tmp_path / "other")
        (other / "3.png").write_bytes(b"x")
        said = run(*asked, "--data", other).stderr.splitlines()
        assert len(said) == 1
        assert said[0].startswith("note: search.last: 1 of 10 pictures are not looked at, the first: ")

    def test_an_address_is_a_file_or_is_named(self, asked: tuple[object, ...], tmp_path: Path) -> None:
        spaced = tmp_path / "a detail.png"
        DETAIL.save(spaced)
        by_address = [spaced.as_uri() if one == tmp_path / "detail.png" else one for one in asked]
        assert [hit["id"] for hit in self.hits(run(*by_address))] == [hit["id"] for hit in self.hits(run(*asked))]
        web = ["https://example.org/a.png" if one == tmp_path / "detail.png" else one for one in asked]
        done = run(*web)
        assert done.exit_code == 2
        assert "https://example.org/a.png: is an address, and no picture of the data; save the picture" in done.stderr

    def test_it_can_be_left_out(self, asked: tuple[object, ...], folder: Path, store: Path) -> None:
        plain = [hit.id for hit in Searcher.open(pipeline(folder), store).search_details([Detail(DETAIL)], top_k=10)]
        for more in (("--no-last-look",), ("--set", "search.last=null"), ("--no-last-look", "--set", KEYPOINTS)):
            done = run(*asked, *more)
            hits = self.hits(done)
            assert [hit["id"] for hit in hits] == plain
            assert not any("last" in hit and hit["last"] is not None for hit in hits)
            assert "note:" not in done.stderr
        whole = self.hits(run(*asked, "--whole"))
        assert not any("last" in hit and hit["last"] is not None for hit in whole)

    def test_pictures_out_of_reach_are_noted(self, asked: tuple[object, ...], store: Path, tmp_path: Path) -> None:
        moved = shutil.copytree(store, tmp_path / "store")
        config = yaml.safe_load((moved / "config.yaml").read_text())
        gone = tmp_path / "gone"
        config["data"]["folder"] = str(gone)
        (moved / "config.yaml").write_text(yaml.safe_dump(config))
        here = [*asked[:3], moved, *asked[4:]]
        plain = self.hits(run(*here, "--no-last-look"))
        says = "note: the best answers are ranked by their vectors, and not looked at: "
        done = run(*here)
        assert self.hits(done) == plain
        [note] = done.stderr.splitlines()
        assert note.startswith(says)
        assert str(gone) in note
        gone.mkdir()
        for number in range(10):
            (gone / f"{number}.png").write_bytes(b"no picture")
        done = run(*here)
        assert self.hits(done) == plain
        [note] = done.stderr.splitlines()
        assert note.startswith(says)
        assert "0.png" in note

    def test_without_the_plugin_or_its_library_it_is_noted(
        self, asked: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plain = self.hits(run(*asked, "--no-last-look"))
        monkeypatch.setattr(plugins, "_installed", lambda name: name != "cv2")
        done = run(*asked)
        assert self.hits(done) == plain
        assert "not looked at: search.last.name: 'keypoints' needs cv2: pip install opencv" in done.stderr
        monkeypatch.setattr(plugins.Registry, "of_role", of_role_but_details)
        done = run(*asked)
        assert self.hits(done) == plain
        assert "not looked at: no plugin that is loaded offers" in done.stderr

    def test_a_detail_that_nothing_shows_is_noted(self, asked: tuple[object, ...], tmp_path: Path) -> None:
        says = "note: no picture that was looked at shows the detail itself; the answers are alike by their vectors\n"
        plain = tmp_path / "plain.png"
        Image.new("RGB", (40, 40), NAVY).save(plain)
        other = [*asked[:5], plain, *asked[6:]]
        done = run(*other)
        assert self.hits(done) == [{**hit, "last": 0.0} for hit in self.hits(run(*other, "--no-last-look"))]
        assert done.stderr.endswith(says)
        assert says not in run(*asked).stderr

    def test_it_is_about_pictures(self, store: Path) -> None:
        done = run("search", "late-interaction", "gold", "--store", store, "--no-last-look")
        assert done.exit_code == 2
        assert "--no-last-look: is about a picture; it needs --image" in done.stderr


def of_role_but_details(registry: plugins.Registry, kind: plugins.Kind, role: str) -> str:
    if role == "details":
        raise PluginError("no plugin that is loaded offers a component")
    return next(spec.name for spec in registry.components(kind) if spec.role == role)


class TestAWrongReranker:
    @pytest.mark.parametrize(
        "matches", [[], [Match(1.0, None)], [Match(float("nan"), None)] * 2, [Match(float("inf"), None)] * 2]
    )
    def test_no_numbers_are_named(self, folder: Path, matches: list[Match]) -> None:
        class Wrong:
            def fingerprint(self) -> str:
                return "wrong/1"

            def compare(self, detail: Image.Image, images: Sequence[Image.Image]) -> list[Match]:
                return matches

        looking = pipeline(folder, KEYPOINTS)
        looking.reranker = Wrong()  # type: ignore[misc]  # in place of what it would build
        regions = (("detail", (0.0, 0.0, 1.0, 1.0), 0.5),)
        hits = [Hit("1.png", 0.5, 1, regions), Hit("2.png", 0.4, 2, regions)]
        with pytest.raises(DataError, match="wrong/1 finds detail in 2 pictures with .* expected as many numbers"):
            LastLook(looking).ranked_by_details([Detail(DETAIL)], hits)
