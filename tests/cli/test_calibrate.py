"""``calibrate`` and what ``search`` then says: relevance, nothing that fits, and every way to ask for it wrongly."""

from __future__ import annotations

import json
import math
import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from click.testing import Result

from heritage_align.pipeline import Pipeline
from heritage_align.runs import from_trec
from heritage_align.search import Searcher, everyday_texts

Call = Callable[..., Result]
UNRELATED = "股票市场今日大跌"


@pytest.fixture
def store(laclip_store: Path, tmp_path: Path) -> Path:
    shutil.copytree(laclip_store, tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture
def table(pictures: Path, tmp_path: Path) -> Path:
    """Six texts of each of ten pictures."""
    folder = tmp_path / "collection"
    shutil.copytree(pictures, folder)
    rows = [
        f"p{n}.png,第{n}件 {word}" for n in range(10) for word in ("白鹤", "蓝地", "云纹", "crane", "peony", "blue")
    ]
    (folder / "texts.csv").write_text("image,text\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return folder / "texts.csv"


def kept(store: Path) -> dict[str, Any]:
    [path] = store.glob("calibration-*.json")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["laws"]
    return found


def test_everyday_sentences_calibrate_where_the_data_has_no_text_of_a_stored_picture(
    call: Call, laclip_file: Path, store: Path
) -> None:
    # the config's data is a folder of pictures: no texts
    result = call("calibrate", laclip_file, "--store", store, "--count", "60")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("asked 10 pictures for 60 of the everyday sentences; the best answers score")
    assert "wrote" in result.stdout
    assert "with their own pictures" not in result.stdout
    assert len(kept(store)["any"]["best"]) == 60
    named = call("calibrate", laclip_file, "--store", store, "--count", "60", "--everyday")
    assert named.stdout == result.stdout


def test_texts_of_the_pictures_calibrate_without_these(call: Call, laclip_file: Path, store: Path, table: Path) -> None:
    result = call("calibrate", laclip_file, "--store", store, "--data", table)
    assert result.exit_code == 0, result.output
    assert "asked 10 pictures for 60 of the texts of" in result.stdout
    assert "with their own pictures an answer is left by search --min-relevance to" in result.stdout
    found = kept(store)
    assert len(found["any"]["known"]) == 60
    as_json = json.loads(call("calibrate", laclip_file, "--store", store, "--data", table, "--json").stdout)
    assert as_json["texts"] == 60
    assert as_json["images"] == 10
    assert list(as_json["kept"]) == ["any"]  # every text has Chinese characters
    assert list(as_json["kept"]["any"]) == ["0.5", "0.9", "0.95", "0.99"]
    assert 0 <= as_json["everyday_passed"] <= 1
    assert kept(store) == found  # the same again


def test_own_texts_calibrate(call: Call, laclip_file: Path, store: Path, tmp_path: Path) -> None:
    file = tmp_path / "unrelated.txt"
    file.write_text("\n".join(f"q{n}\t第{n}号会议" for n in range(55)), encoding="utf-8")
    result = call("calibrate", laclip_file, "--store", store, "--texts", file)
    assert f"asked 10 pictures for 55 of the texts of {file}" in result.stdout
    assert kept(store)["any"]["known"] == []


def test_a_script_of_few_texts_is_judged_with_all(call: Call, laclip_file: Path, store: Path, tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    file.write_text(
        "\n".join([*(f"第{n}号会议" for n in range(60)), *(f"meeting {n}" for n in range(20))]), encoding="utf-8"
    )
    result = call("calibrate", laclip_file, "--store", store, "--texts", file)
    assert [line.split(":")[0].strip() for line in result.stdout.splitlines()[1:3]] == [
        "all texts",
        "with Chinese characters",
    ]
    assert {script: len(law["best"]) for script, law in kept(store).items()} == {"any": 80, "han": 60}


def test_the_command_that_is_named_runs(call: Call, refused: Callable[..., str], tmp_path: Path) -> None:
    """Also of a recipe, and of a store whose name holds a space."""
    store = tmp_path / "my store"
    few = ("--set", "data.artworks=2", "--set", "data.variants=1")
    assert call("index", "build", "global", *few, "--out", store).exit_code == 0
    message = refused("search", "global", "--store", store, "鹤", "--min-relevance", "0.5")
    line = message.partition("make one: ")[2].strip()
    assert shlex.split(line) == ["heritage-align", "calibrate", "global", "--store", str(store)]
    assert call(*shlex.split(line)[1:], "--everyday").exit_code == 0
    assert call("search", "global", "--store", store, "鹤", "--min-relevance", "0.5").exit_code == 0


def test_search_says_the_relevance_and_that_nothing_fits(call: Call, laclip_file: Path, store: Path) -> None:
    asked = ("search", laclip_file, "--store", store, UNRELATED, "--top-k", "3")
    plain = call(*asked).stdout
    assert call("calibrate", laclip_file, "--store", store, "--everyday").exit_code == 0
    judged = call(*asked).stdout
    [rank, score, relevance, image_id] = judged.splitlines()[0].split("[")[0].split()
    assert plain.split()[:3] == [rank, score, image_id]
    assert 0 <= float(relevance) <= 1
    record = json.loads(call(*asked, "--json").stdout)
    assert record["hits"][0]["relevance"] == pytest.approx(float(relevance), abs=6e-4)
    assert "nothing_fits" not in record

    nothing = call(*asked, "--min-relevance", "0.9999")
    assert nothing.exit_code == 0
    assert nothing.stdout.startswith(f"nothing here fits: the best of 10 pictures, {image_id} ({score}), has relevance")
    record = json.loads(call(*asked, "--json", "--min-relevance", "0.9999").stdout)
    assert record["hits"] == []
    assert record["nothing_fits"]["best"]["id"] == image_id
    assert call(*asked, "--min-relevance", "0").stdout == judged


def test_nothing_is_explained_where_nothing_fits(call: Call, laclip_file: Path, store: Path, tmp_path: Path) -> None:
    call("calibrate", laclip_file, "--store", store, "--everyday")
    picture = tmp_path / "why.png"
    result = call("search", laclip_file, "--store", store, UNRELATED, "--min-relevance", "0.9999", "--explain", picture)
    assert result.exit_code == 0
    assert "nothing here fits" in result.stdout
    assert f"note: {picture} is not written: there is no answer to explain" in result.stderr
    assert not picture.exists()


def test_many_queries_leave_out_what_does_not_fit(call: Call, laclip_file: Path, store: Path, tmp_path: Path) -> None:
    call("calibrate", laclip_file, "--store", store, "--everyday")
    queries = tmp_path / "queries.txt"
    queries.write_text(f"a\t白鹤\nb\t{UNRELATED}\nc\ttwo cranes\n", encoding="utf-8")
    asked = ("search", laclip_file, "--store", store, "--queries", queries)
    every = [json.loads(line) for line in call(*asked).stdout.splitlines()]
    relevances = sorted(hit["relevance"] for record in every for hit in record["hits"])
    bound = relevances[-3]
    some = [json.loads(line) for line in call(*asked, "--min-relevance", str(bound)).stdout.splitlines()]
    assert [record["id"] for record in some] == ["a", "b", "c"]
    for all_hits, left in zip(every, some, strict=True):
        assert left["hits"] == [hit for hit in all_hits["hits"] if hit["relevance"] >= bound]
    assert call(*asked, "--min-relevance", str(bound), "--out", tmp_path / "run.trec").exit_code == 0
    run = from_trec(tmp_path / "run.trec")
    answered = {record["id"]: [hit["id"] for hit in record["hits"]] for record in some if record["hits"]}
    assert dict(zip(run.query_ids, run.ids, strict=True)) == answered


def test_what_is_missing_is_named(
    refused: Callable[..., str], laclip_file: Path, store: Path, pictures: Path, tmp_path: Path
) -> None:
    few = tmp_path / "few.txt"
    few.write_text("one\ntwo\n", encoding="utf-8")
    asked = ("search", laclip_file, "--store", store)
    made = ("calibrate", laclip_file, "--store", store)
    message = refused(*asked, "鹤", "--min-relevance", "0.9")
    assert f"make one: heritage-align calibrate {laclip_file} --store {store}" in message
    for arguments, wanted in (
        ((*asked, "--queries", few, "--min-relevance", "0.9"), "make one: heritage-align calibrate"),
        ((*asked, "鹤", "--min-relevance", "95"), "min_relevance is 95.0, expected at least 0 and less than 1"),
        (
            (*asked, "--image", pictures / "p1.png", "--min-relevance", "0.9"),
            "--min-relevance: calibrations are of text",
        ),
        ((*made, "--texts", few), f"the texts of {few}: 2 of 2 can be asked as unrelated texts, expected at least 50"),
        ((*made, "--texts", tmp_path / "none.txt"), "none.txt: cannot be read"),
        ((*made, "--texts", few, "--everyday"), "give one of --data, --texts and --everyday"),
        ((*made, "--count", "10"), "count is 10, expected at least 50"),
        ((*made, "--data", pictures), "0 of 0 can be asked"),
        (("calibrate", laclip_file, "--store", tmp_path / "nowhere"), "nowhere: there is no store"),
    ):
        assert wanted in refused(*arguments)
    assert not list(store.glob("calibration-*"))


def test_a_stale_calibration_is_said_and_the_answers_come(
    call: Call, refused: Callable[..., str], laclip_file: Path, store: Path, pictures: Path, tmp_path: Path
) -> None:
    call("calibrate", laclip_file, "--store", store, "--everyday")
    folder = tmp_path / "more"
    shutil.copytree(pictures, folder)
    (folder / "p0.png").unlink()
    assert call("index", "update", store, "--data", folder).exit_code == 0
    result = call("search", laclip_file, "--store", store, "鹤", "--top-k", "1", "--json")
    assert result.exit_code == 0
    assert "note: no relevance is said:" in result.stderr
    assert "is out of date: the store was changed since; make it again" in result.stderr
    assert "relevance" not in json.loads(result.stdout)["hits"][0]
    assert "is out of date" in refused("search", laclip_file, "--store", store, "鹤", "--min-relevance", "0.5")
    assert call("calibrate", laclip_file, "--store", store, "--everyday").exit_code == 0
    assert call("search", laclip_file, "--store", store, "鹤", "--min-relevance", "0.5").exit_code == 0


def test_a_store_that_cannot_be_written_to_is_named(
    refused: Callable[..., str], laclip_file: Path, store: Path
) -> None:
    if os.geteuid() == 0:
        pytest.skip("the superuser writes everywhere")
    store.chmod(0o500)
    try:
        assert "cannot be written" in refused("calibrate", laclip_file, "--store", store, "--everyday")
    finally:
        store.chmod(0o700)


def test_texts_on_another_scale_than_everyday_sentences_are_noticed(
    call: Call, laclip: Pipeline, laclip_file: Path, store: Path, tmp_path: Path
) -> None:
    everyday = everyday_texts()
    with Searcher.open(laclip, store) as searcher:
        best = [scores[0] for scores in searcher.search(everyday, top_k=1).scores]
    order = sorted(range(len(everyday)), key=best.__getitem__)
    file = tmp_path / "texts.txt"
    for chosen, noticed in ((order[:100], True), (order[-100:], False)):
        file.write_text("\n".join(everyday[n].text for n in chosen), encoding="utf-8")
        result = call("calibrate", laclip_file, "--store", store, "--texts", file, "--json")
        laws = kept(store)
        drawn = Random(0).sample(range(len(everyday)), 200)
        bounds = {}
        for script, law in laws.items():
            scores, total = sorted(law["best"]), len(law["best"])
            # The least score above which the share of lower ones, of one more, is 0.95.
            bounds[script] = scores[math.ceil(0.95 * (total + 1)) - 1]
        script_of = {True: "han", False: "other"}
        passed = [best[n] > bounds.get(script_of[everyday[n].language == "zh"], bounds["any"]) for n in drawn]
        wanted = sum(passed) / 200
        assert json.loads(result.stdout)["everyday_passed"] == pytest.approx(wanted, abs=0.005)
        shown = call("calibrate", laclip_file, "--store", store, "--texts", file)
        assert ("scores texts of another form on another scale" in shown.stderr) == noticed
