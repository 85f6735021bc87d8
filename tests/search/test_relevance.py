"""What a score means: values by hand, laws that hold for any scores, and files that are not of this store or recipe."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from heritage_align.errors import DataError, StoreError
from heritage_align.indexing import build_index
from heritage_align.pipeline import Pipeline, dataset_sources
from heritage_align.search import (
    Calibration,
    ScoreLaw,
    Searcher,
    calibrate,
    everyday_texts,
    known_texts,
    write_calibration,
)
from heritage_align.search.relevance import read_calibration, script_of
from heritage_align.types import GoldenPair, Hit, Run, TextItem
from heritage_align.updating import update_index

HUNDRED = ScoreLaw(tuple(float(n) for n in range(1, 101)))


@pytest.mark.parametrize(
    ("score", "relevance"),
    [
        (-math.inf, 0.0),
        (0.5, 0.0),
        (1.0, 0.0),  # (1 + 100) / 101 score as high
        (1.5, 1 / 101),
        (50.0, 49 / 101),
        (95.5, 95 / 101),
        (100.0, 99 / 101),
        (100.0 + 1e-9, 100 / 101),  # beyond what was seen: the ten highest are 5.5 above the 90 on average
        (105.5, 1 - math.exp(-1) / 101),
        (111.0, 1 - math.exp(-2) / 101),
        (math.inf, 1.0),
    ],
)
def test_values_by_hand(score: float, relevance: float) -> None:
    assert HUNDRED.relevance(score) == pytest.approx(relevance, abs=1e-9)


def test_a_tail_without_excess_promises_no_more_than_it_saw() -> None:
    same = ScoreLaw((2.0,) * 50)
    assert [same.relevance(score) for score in (1.9, 2.0, 2.1, 1e9)] == [0, 0, 50 / 51, 50 / 51]


def test_the_least_number_of_queries_has_a_tail_of_five() -> None:
    few = ScoreLaw((0.0,) * 45 + (1.0, 2.0, 3.0, 4.0, 5.0))
    assert few.relevance(8.0) == pytest.approx(1 - math.exp(-1) / 51)


finite = st.floats(-1e6, 1e6)


@given(st.lists(finite | st.sampled_from([0.0, 1.0]), min_size=50, max_size=120), st.lists(st.floats(allow_nan=False)))
def test_a_higher_score_is_never_less_relevant(best: list[float], scores: list[float]) -> None:
    found = ScoreLaw(tuple(sorted(best)))
    relevances = [found.relevance(score) for score in sorted([*scores, *best])]
    assert all(0 <= relevance <= 1 for relevance in relevances)
    assert relevances == sorted(relevances)
    for score in best:  # no unrelated query is said to score higher than it did
        assert found.relevance(score) == sum(other < score for other in best) / (len(best) + 1)


@given(st.lists(finite, min_size=50, max_size=60), st.floats(0.01, 100), st.floats(-100, 100))
def test_another_scale_changes_nothing(best: list[float], scale: float, shift: float) -> None:
    rounded = sorted(round(score) for score in best)  # so that no two scores meet when they are moved
    one = ScoreLaw(tuple(map(float, rounded)))
    other = ScoreLaw(tuple(score * scale + shift for score in rounded))
    for score in rounded:
        assert other.relevance(score * scale + shift) == pytest.approx(one.relevance(score), abs=1e-3)


@pytest.mark.parametrize("law", ["gumbel", "normal", "uniform"])
def test_of_queries_that_nothing_answers_about_one_in_twenty_passes(law: str) -> None:
    chance = np.random.default_rng(5)
    draw = getattr(chance, law)
    shares = []
    for _ in range(200):
        best = np.sort(draw(size=(300, 50)).max(1))
        found = ScoreLaw(tuple(best.tolist()))
        fresh = draw(size=(100, 50)).max(1)
        shares.append(np.mean([found.relevance(score) >= 0.95 for score in fresh.tolist()]))
    assert 0.044 < np.mean(shares) < 0.055  # a mean of 20,000 draws: its deviation is about 0.002


@pytest.mark.parametrize(
    ("best", "message"),
    [
        ((1.0,) * 49, "49 unrelated queries, expected at least 50"),
        ((2.0,) + (1.0,) * 60, "ascending"),
        ((1.0,) * 60 + (math.inf,), "finite"),
        ((1.0,) * 60 + (math.nan,), "finite"),
    ],
)
def test_scores_that_are_no_calibration_are_refused(best: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScoreLaw(best)
    if len(best) > 50:
        with pytest.raises(ValueError, match=message):
            ScoreLaw((1.0,) * 50, known=best)


def test_a_bound_costs_the_known_texts_below_it() -> None:
    known = ScoreLaw(HUNDRED.best, known=(10.0, 60.0, 99.0, 200.0))
    assert [known.share_known(bound) for bound in (0.0, 0.5, 0.95, 0.999)] == [1, 0.75, 0.5, 0.25]
    assert math.isnan(HUNDRED.share_known(0.5))


def test_a_text_is_judged_by_the_law_of_its_script_where_there_is_one() -> None:
    low = ScoreLaw(tuple(score - 50 for score in HUNDRED.best))
    found = Calibration({"any": HUNDRED, "han": low}, "by hand")
    assert found.relevance("白鹤 crane", 40.0) == 89 / 101
    assert found.relevance("a crane", 40.0) == 39 / 101
    assert [script_of(text) for text in ("鹤", "\U00020000", "\uf900", "crane", "ツル", "Ω 12", "")] == ["han"] * 3 + [
        "other"
    ] * 4


def test_everyday_texts_are_many_and_of_two_languages() -> None:
    texts = everyday_texts()
    assert len({item.text for item in texts}) == len(texts) == 800
    assert [item.language for item in texts[:4]] == ["zh", "en", "zh", "en"]
    assert len({item.text[:3] for item in texts[:40:2]}) == 20  # the first ones have every subject
    assert texts == everyday_texts()


# --- of a store ---------------------------------------------------------------------------------------------------


@dataclass
class Captions:
    """Ten pictures, six texts each; every two pictures are one artwork, and one sentence is of two pictures."""

    image_ids: tuple[str, ...]
    name: str = "captions"
    golden: tuple[GoldenPair, ...] = ()
    texts: tuple[TextItem, ...] = field(init=False)
    artwork_of: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.artwork_of = {image_id: f"artwork {n // 2}" for n, image_id in enumerate(self.image_ids)}
        self.texts = (
            *(
                TextItem(f"{image_id}-{k}", f"第{n}件，{k}只白鹤", (image_id,), phrases=("白鹤",))
                for n, image_id in enumerate(self.image_ids)
                for k in range(6)
            ),
            TextItem("shared-1", "两件 a crane", (self.image_ids[0],)),
            TextItem("shared-2", "两件 a crane", (self.image_ids[4],)),
            TextItem("elsewhere", "此图不在", ("not in the store.png",)),
        )

    def load_image(self, image_id: str) -> Image.Image:
        raise AssertionError(f"{image_id}: no picture is needed")


@pytest.fixture(params=["scan", "laclip"])
def searcher(request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Searcher:
    """A searcher of a copy of its own: tests change the store."""
    pipeline: Pipeline = request.getfixturevalue(request.param)
    built = tmp_path_factory.getbasetemp() / f"built {request.param}"
    if not built.exists():
        build_index(pipeline, list(dataset_sources(pipeline.dataset())), built)
    shutil.copytree(built, tmp_path / "store")
    return Searcher.open(pipeline, tmp_path / "store")


@pytest.fixture
def texts(searcher: Searcher) -> list[TextItem]:
    return known_texts(Captions(searcher.store.ids), searcher.store)


def again(searcher: Searcher, **settings: Any) -> Searcher:
    """Open the store anew, with other settings of the configuration."""
    document = searcher.pipeline.config.as_dict()
    for key, value in settings.items():
        document[key] = {**document[key], **value}
    return Searcher.open(Pipeline.from_config(document) if settings else searcher.pipeline, searcher.store.path)


def test_known_texts_leave_out_every_picture_of_the_artwork(searcher: Searcher, texts: list[TextItem]) -> None:
    ids = searcher.store.ids
    assert len(texts) == 61  # the sentence of two pictures once, and none of a picture that is not there
    assert texts[7].image_ids == (ids[0], ids[1])
    assert texts[-1].text == "两件 a crane"
    assert texts[-1].image_ids == (ids[0], ids[1], ids[4], ids[5])
    assert all(not item.phrases for item in texts)


def test_the_best_score_is_that_of_the_pictures_that_are_left(searcher: Searcher, texts: list[TextItem]) -> None:
    found = calibrate(searcher, texts, "captions")
    scores = searcher.score_all(searcher.pipeline.encode_texts(texts))
    left = torch.tensor([[image_id not in item.image_ids for item in texts] for image_id in searcher.store.ids])
    wanted = scores.masked_fill(~left, -torch.inf).amax(0).sort().values
    law = found.laws["any"]
    assert list(found.laws) == ["any"]  # every text has Chinese characters
    assert law.best == pytest.approx(wanted.tolist(), abs=1e-5)
    assert law.known == pytest.approx(scores.amax(0).sort().values.tolist(), abs=1e-5)
    assert found.depth == (None if searcher.store.exact_first_stage else 10)


def test_texts_are_drawn_from_all_and_progress_is_told(searcher: Searcher, texts: list[TextItem]) -> None:
    done: list[int] = []
    found = calibrate(searcher, texts + everyday_texts()[:539], "mixed", count=300, progress=done.append)
    assert len(found.laws["any"].best) == sum(done) == 300
    assert done == [256, 44]
    assert 20 < len(found.laws["any"].known) < 42  # of 61, where half of all texts are drawn
    assert found == calibrate(searcher, texts + everyday_texts()[:539], "mixed", count=300)
    assert len(found.laws["han"].best) + len(found.laws["other"].best) == 300
    assert min(len(found.laws["han"].best), len(found.laws["other"].best)) > 100


def test_a_text_that_is_there_many_times_is_one(searcher: Searcher, texts: list[TextItem]) -> None:
    same = [TextItem(f"{n}", texts[0].text + " " * (n % 3)) for n in range(60)]
    with pytest.raises(DataError, match="1 of 60 can be asked as unrelated texts, expected at least 50 different ones"):
        calibrate(searcher, same, "one text")
    assert calibrate(searcher, [*texts, *same], "captions").laws == calibrate(searcher, texts, "captions").laws


def test_scores_that_are_all_the_same_tell_nothing(
    searcher: Searcher, texts: list[TextItem], monkeypatch: pytest.MonkeyPatch
) -> None:
    def search(items: list[TextItem], **_: Any) -> Run:
        ids = list(searcher.store.ids)
        return Run(tuple(item.id for item in items), [ids for _ in items], [[0.5] * len(ids) for _ in items])

    monkeypatch.setattr(searcher, "search", search)
    with pytest.raises(DataError, match=r"the best answers of 61 different texts all score 0\.5000"):
        calibrate(searcher, texts, "captions")


def test_too_few_texts_are_counted(searcher: Searcher, texts: list[TextItem]) -> None:
    with pytest.raises(DataError, match="captions: 49 of 49 can be asked as unrelated texts, expected at least 50"):
        calibrate(searcher, texts[:49], "captions")
    all_right = [TextItem(item.id, item.text, searcher.store.ids) for item in texts]
    with pytest.raises(DataError, match="0 of 61 can be asked"):
        calibrate(searcher, all_right, "all pictures are right")
    with pytest.raises(DataError, match="count is 49"):
        calibrate(searcher, texts, "captions", count=49)


def test_hits_say_their_relevance_and_a_bound_leaves_those_below_it_out(
    searcher: Searcher, texts: list[TextItem]
) -> None:
    queries = [TextItem("a", "第3件，2只白鹤"), TextItem("b", "stock market")]
    before = searcher.hits(queries, top_k=5)
    assert all(hit.relevance is None and "relevance" not in hit.asdict() for hits in before for hit in hits)
    found = calibrate(searcher, texts + everyday_texts(), "captions and sentences")
    assert set(found.laws) == {"any", "han", "other"}
    write_calibration(searcher.pipeline, searcher.store, found)
    searcher = again(searcher)
    after = searcher.hits(queries, top_k=5)
    for item, old, new in zip(queries, before, after, strict=True):
        assert [hit.relevance for hit in new] == [found.relevance(item.text, hit.score) for hit in old]
        assert [(hit.id, hit.score, hit.regions) for hit in new] == [(hit.id, hit.score, hit.regions) for hit in old]
        assert new[0].asdict()["relevance"] == new[0].relevance
    middle = sorted(hit.relevance or 0.0 for hits in after for hit in hits)[5]
    for bound in (0.0, middle, 0.999999):
        kept = searcher.hits(queries, top_k=5, min_relevance=bound)
        assert kept == [[hit for hit in hits if (hit.relevance or 0.0) >= bound] for hits in after]
        run = searcher.search(queries, top_k=5, min_relevance=bound)
        assert run.ids == [[hit.id for hit in hits] for hits in kept]
        assert run.scores == [[hit.score for hit in hits] for hits in kept]
    assert searcher.hits(queries, top_k=5, min_relevance=0.0) == after


@pytest.mark.parametrize("bound", [-0.1, 1.0, 95.0, math.nan])
def test_a_bound_that_is_none_is_refused(searcher: Searcher, bound: float) -> None:
    with pytest.raises(DataError, match="min_relevance is .*, expected at least 0 and less than 1"):
        searcher.search([TextItem("a", "鹤")], min_relevance=bound)


def test_without_a_calibration_the_command_is_named(searcher: Searcher) -> None:
    with pytest.raises(StoreError, match=r"holds no calibration of this recipe.*heritage-align calibrate .* --store "):
        searcher.hits([TextItem("a", "鹤")], min_relevance=0.5)
    assert searcher.calibration_fault is None


def test_another_recipe_is_told_by_what_differs(searcher: Searcher, texts: list[TextItem]) -> None:
    write_calibration(searcher.pipeline, searcher.store, calibrate(searcher, texts, "captions"))
    other = again(searcher, encoder={"context_length": 20})
    with pytest.raises(
        StoreError, match=r"there are those of tiny \(texts.encoder.settings.context_length unset, here 20\)"
    ):
        other.calibration()
    write_calibration(other.pipeline, other.store, calibrate(other, everyday_texts(), "everyday", count=50))
    assert again(searcher).calibration().source == "captions"
    assert again(other, encoder={"context_length": 20}).calibration().source == "everyday"


def test_more_candidates_are_another_calibration(scan: Pipeline, tmp_path: Path) -> None:
    build_index(scan, list(dataset_sources(scan.dataset())), tmp_path / "store")
    few = again(Searcher.open(scan, tmp_path / "store"), search={"candidates": 4, "top_k": 2})
    write_calibration(few.pipeline, few.store, calibrate(few, everyday_texts(), "everyday", count=50))
    few = again(few)
    [hits] = few.hits([TextItem("a", "鹤")])
    assert hits[0].relevance is not None
    [hits] = few.hits([TextItem("a", "鹤")], candidates=7)
    assert hits[0].relevance is None
    [hits] = few.hits([TextItem("a", "鹤")], top_k=6)  # raises the candidates too
    assert hits[0].relevance is None
    with pytest.raises(StoreError, match="is calibrated for 4 candidates a query, not for 7"):
        few.hits([TextItem("a", "鹤")], candidates=7, min_relevance=0.5)


def test_an_update_makes_it_stale_until_it_is_made_again(searcher: Searcher, pictures: Path, tmp_path: Path) -> None:
    write_calibration(searcher.pipeline, searcher.store, calibrate(searcher, everyday_texts(), "everyday"))
    document = searcher.pipeline.config.as_dict()
    folder = tmp_path / "pictures"
    shutil.copytree(pictures, folder)
    Image.new("RGB", (40, 40), "red").save(folder / "p99.png")
    pipeline = Pipeline.from_config({**document, "data": {"name": "folder", "folder": str(folder)}})
    path = searcher.store.path
    searcher.close()
    update_index(pipeline, list(dataset_sources(pipeline.dataset())), path)
    stale = Searcher.open(pipeline, path)
    [hits] = stale.hits([TextItem("a", "鹤")])
    assert hits[0].relevance is None
    assert "is out of date: the store was changed since; make it again: heritage-align" in str(stale.calibration_fault)
    for _ in range(2):
        with pytest.raises(StoreError, match="is out of date"):
            stale.search([TextItem("a", "鹤")], min_relevance=0.5)
    write_calibration(pipeline, stale.store, calibrate(stale, everyday_texts(), "everyday"))
    assert Searcher.open(pipeline, path).calibration().source == "everyday"


def change(key: str, value: Any) -> Callable[[str], str]:
    """Return what changes a key of the document, or one of its law for all texts."""

    def changed(text: str) -> str:
        document = json.loads(text)
        (document["laws"]["any"] if key in ("best", "known") else document)[key] = value
        return json.dumps(document)

    return changed


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:100], "is not JSON"),
        (lambda _: "[1, 2]", "expected a JSON object"),
        (change("format", 2), "format 2, this version reads 1"),
        (change("best", [1.0, 0.5] * 40), "is damaged: the scores are not finite numbers in ascending order"),
        (change("best", [0.5] * 10), "is damaged: 10 unrelated queries"),
        (change("best", ["0.5"] * 60), "is damaged: '0.5' is no number"),
        (change("best", [True] * 60), "is damaged: True is no number"),
        (change("best", [math.nan] * 60), "is damaged: the scores are not finite"),
        (change("known", None), "is damaged"),
        (change("laws", {}), "is damaged: there is no law for texts of any script"),
        (change("laws", [1]), "is damaged"),
        (change("laws", {"any": 3}), "is damaged"),
        (change("depth", "ten"), "is damaged: 'ten' is no number"),
        (change("depth", math.inf), "is damaged: cannot convert float infinity"),
        (lambda _: '{"a": ' * 5000, "is not JSON"),
        (change("settings", {"candidates": 1}), "is of another recipe than its name says"),
        (change("store", "0"), "is out of date"),
    ],
)
def test_a_damaged_file_is_named_and_does_not_stop_a_search(
    searcher: Searcher, damage: Callable[[str], str], message: str
) -> None:
    path = write_calibration(searcher.pipeline, searcher.store, calibrate(searcher, everyday_texts(), "everyday"))
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(StoreError, match="make it again: heritage-align calibrate") as raised:
        read_calibration(searcher.pipeline, searcher.store)
    assert str(raised.value).startswith(str(path))
    assert message in str(raised.value)
    damaged = again(searcher)
    [hits] = damaged.hits([TextItem("a", "鹤")])
    assert isinstance(hits[0], Hit)
    assert hits[0].relevance is None
    assert damaged.calibration_fault == str(raised.value)
