"""The main job on a small collection: build, look at, search, rerank, evaluate, explain."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from PIL import Image

from heritage_align.cli import cli
from heritage_align.cli.options import read_config
from heritage_align.config import load_config
from heritage_align.recipes import recipe_names
from heritage_align.runs import from_trec

Call = Callable[..., Result]


def lines(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return list(result.stdout.splitlines())


def document(result: Result) -> dict[str, object]:
    assert result.exit_code == 0, result.output
    found: dict[str, object] = json.loads(result.stdout)
    return found


def test_build_names_a_bad_picture_once_and_goes_on(call: Call, scan_file: Path, tmp_path: Path) -> None:
    result = call("index", "build", scan_file, "--out", tmp_path / "store")
    assert lines(result) == [f"{tmp_path / 'store'}: 10 images, 1 left out; shards: 3 written, 0 were there"]
    assert result.stderr.count("p3x.png: ") == 2  # its id, and the message that begins with its path
    assert result.stderr.count("left out") == 1
    again = call("index", "build", scan_file, "--out", tmp_path / "store")
    looked = f"whether pictures changed is not looked at: heritage-align index update {tmp_path / 'store'} does"
    assert lines(again)[0].endswith(f"shards: 0 written, 3 were there; {looked}")
    again = document(call("index", "build", scan_file, "--out", tmp_path / "store", "--json"))
    assert (again["shards_written"], again["shards_found"], again["finished"]) == (0, 3, True)
    assert lines(call("index", "verify", tmp_path / "store")) == [f"{tmp_path / 'store'}: sound"]


def test_a_folder_of_pointers_is_not_named_line_by_line(
    call: Call, scan_file: Path, pictures: Path, tmp_path: Path
) -> None:
    folder, store = tmp_path / "clone", tmp_path / "store"
    folder.mkdir()
    (folder / "p0.png").write_bytes((pictures / "p0.png").read_bytes())
    for number in range(1, 31):
        (folder / f"{number}.jpg").write_text("version https://git-lfs.github.com/spec/v1\nsize 1048576\n")
    told = call("index", "build", scan_file, "--data", folder, "--out", store)
    assert told.exit_code == 0
    assert "30 left out" in told.stdout
    assert told.stderr.count("is a Git LFS pointer of the file of 1.0 MiB") == 10
    assert told.stderr.endswith("left out 20 more (--json names them all)\n")
    for command in (("build", scan_file, "--out", store), ("update", store)):
        named = document(call("index", *command, "--data", folder, "--json"))["skipped"]
        assert isinstance(named, list)
        assert len(named) == 30


def test_info_says_what_is_there(call: Call, scan_store: Path) -> None:
    shown = lines(call("index", "info", scan_store))
    assert shown[0] == "images    10 (1 left out), 30 regions"
    assert shown[1] == "vectors   16 dimensions, fp16, folded: none"
    assert document(call("index", "info", scan_store, "--json"))["images"] == 10
    assert document(call("index", "verify", scan_store, "--json"))["faults"] == []


def test_shares_and_merge(call: Call, scan_file: Path, scan_store: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        shown = lines(call("index", "build", scan_file, "--out", tmp_path / f"part{number}", "--shard", f"{number}/2"))
        assert "other shares are still missing" in shown[0]
    shown = lines(call("index", "merge", tmp_path / "part1", tmp_path / "part2", "--out", tmp_path / "merged"))
    assert shown == [f"{tmp_path / 'merged'}: 10 images in 3 shards"]
    query = ("search", scan_file, "白鹤，蓝地", "--json", "--store")
    assert call(*query, tmp_path / "merged").stdout == call(*query, scan_store).stdout


@pytest.mark.parametrize("text", ["蓝地，缠枝莲纹", "a crane, a peony", "鹤", "🐉", "x" * 20_000, "蓝地，" * 3000])
def test_search_in_any_language_and_length(call: Call, scan_file: Path, scan_store: Path, text: str) -> None:
    found = document(call("search", scan_file, text, "--store", scan_store, "--top-k", "3", "--json"))
    assert found["query"] == text
    hits = found["hits"]
    assert isinstance(hits, list)
    assert [hit["rank"] for hit in hits] == [1, 2, 3]
    assert sorted((hit["score"] for hit in hits), reverse=True) == [hit["score"] for hit in hits]
    assert all(0 <= value <= 1 for hit in hits for answer in hit["regions"] for value in answer["box"])


def test_search_shows_ids_scores_and_phrases(call: Call, scan_file: Path, scan_store: Path) -> None:
    shown = lines(call("search", scan_file, "蓝地，白鹤", "--store", scan_store, "--top-k", "99"))
    assert len(shown) == 10  # as many as there are
    assert all("蓝地 " in line and "白鹤 " in line for line in shown)


def test_a_whole_picture_finds_itself(call: Call, laclip_file: Path, laclip_store: Path, pictures: Path) -> None:
    asked = ("search", laclip_file, "--store", laclip_store, "--image", pictures / "p7.png", "--whole", "--json")
    found = document(call(*asked))
    assert found["query"] == str(pictures / "p7.png")
    hits = found["hits"]
    assert isinstance(hits, list)
    assert hits[0]["id"] == "p7.png"
    assert hits[0]["score"] == pytest.approx(1, abs=1e-3)
    assert all("regions" not in hit for hit in hits)
    for text in ("蓝地", "blue ground"):
        both = document(call(*asked, "--text", text, "--weight", "0.1"))
        assert both["text"] == text
        assert both["weight"] == 0.1
        assert both["hits"] != hits


def test_a_store_without_regions_compares_whole_pictures_and_says_so(
    call: Call, refused: Callable[..., str], tmp_path: Path, pictures: Path
) -> None:
    call("index", "build", "global", "--data", pictures, "--out", tmp_path / "store")
    asked = ("search", "global", "--store", tmp_path / "store", "--image", pictures / "p7.png", "--box", "4,8,20,16")
    alone, whole = call(*asked), call(*asked, "--whole")
    assert "note:" in alone.stderr
    assert "no regions that a detail could be matched with: whole pictures are compared" in alone.stderr
    assert "note:" not in whole.stderr
    assert alone.stdout == whole.stdout
    assert "has no regions" in refused(*asked, "--image", pictures / "p1.png", "--box", "4,8,20,16")


def test_a_detail_is_answered_with_a_box(call: Call, scan_file: Path, scan_store: Path, pictures: Path) -> None:
    asked = ("search", scan_file, "--store", scan_store, "--image", pictures / "p7.png")
    found = document(call(*asked, "--box", "4,8,20,16", "--json", "--top-k", "4"))
    assert found["query"] == f"{pictures / 'p7.png'}#xywh=4,8,20,16"
    assert found["pictures"] == [{"image": str(pictures / "p7.png"), "box": [4, 8, 24, 24]}]
    hits = found["hits"]
    assert isinstance(hits, list)
    assert [hit["rank"] for hit in hits] == [1, 2, 3, 4]
    for hit in hits:
        [answer] = hit["regions"]
        assert answer["phrase"] == str(pictures / "p7.png")
        assert answer["score"] == pytest.approx(hit["score"], abs=1e-5)
        assert all(0 <= value <= 1 for value in answer["box"])
    # 48 x 40 pixels: the same box in per cent, and as a picture of the data by its id
    in_per_cent = document(call(*asked, "--box", "pct:8.3333333,20,41.6666667,40", "--json", "--top-k", "4"))
    assert in_per_cent["hits"] == hits
    by_id = ("search", scan_file, "--store", scan_store, "--image", "p7.png", "--box", "4,8,20,16", "--top-k", "4")
    assert [hit["id"] for hit in document(call(*by_id, "--json"))["hits"]] == [hit["id"] for hit in hits]  # type: ignore[attr-defined]
    shown = lines(call(*by_id))
    x0, y0, x1, y1 = hits[0]["regions"][0]["box"]
    assert f"p7.png {hits[0]['score']:+.2f} at x {x0:.2f}-{x1:.2f}, y {y0:.2f}-{y1:.2f}]" in shown[0]


def test_hits_of_a_detail_become_annotations(
    call: Call, scan_file: Path, scan_store: Path, pictures: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.json"
    picture = ("--image", pictures / "p7.png", "--box", "4,8,20,16", "--top-k", "3")
    shown = lines(call("search", scan_file, "--store", scan_store, *picture, "--annotations", page))
    assert shown[-1] == f"wrote {page}"
    items = json.loads(page.read_text(encoding="utf-8"))["items"]
    assert len(items) == 3
    for item, line in zip(items, shown):
        assert "xywh=percent:" in json.dumps(item["target"])
        assert line.split()[2] in json.dumps(item["target"])


def test_several_details_and_a_text(call: Call, scan_file: Path, scan_store: Path, pictures: Path) -> None:
    asked = ("search", scan_file, "--store", scan_store, "--json", "--top-k", "3")
    two = ("--image", pictures / "p1.png", "--image", pictures / "p2.png")
    whole = document(call(*asked, *two))
    boxed = document(call(*asked, *two, "--box", "0,0,48,40", "--box", "pct:0,0,100,100"))
    assert whole["hits"] == boxed["hits"]
    parts = document(call(*asked, "--image", pictures / "p1.png", "--box", "0,0,9,9", "--box", "9,9,9,9"))
    assert [len(hit["regions"]) for hit in parts["hits"]] == [2, 2, 2]  # type: ignore[attr-defined]
    for text, phrases in (("蓝地，白鹤", ["蓝地", "白鹤"]), ("two cranes, a lotus", ["two cranes", "a lotus"])):
        found = document(call(*asked, "--image", pictures / "p1.png", "--text", text))
        assert found["text"] == text
        assert found["weight"] == 0.5
        for hit in found["hits"]:  # type: ignore[attr-defined]
            assert [answer["phrase"] for answer in hit["regions"]] == [str(pictures / "p1.png"), *phrases]


def test_search_and_explain_draw_pictures(
    call: Call, scan_file: Path, scan_store: Path, pictures: Path, tmp_path: Path
) -> None:
    why = tmp_path / "why.png"
    shown = lines(call("search", scan_file, "蓝地，白鹤", "--store", scan_store, "--explain", why))
    assert shown[-1] == f"wrote {why}"
    assert Image.open(why).width >= 48
    drawn = why.read_bytes()
    for more in (("--set", "data="), ("--set", "data={name: motifs, split: test, artworks: 2}")):  # not the store's
        assert call("search", scan_file, "蓝地，白鹤", "--store", scan_store, "--explain", why, *more).exit_code == 0
        assert why.read_bytes() == drawn
    out = tmp_path / "explained.jpg"
    found = document(call("explain", scan_file, pictures / "p1.png", "蓝地，白鹤", "--out", out, "--json"))
    assert found["picture"] == str(out)
    assert [answer["phrase"] for answer in found["phrases"]] == ["蓝地", "白鹤"]  # type: ignore[attr-defined]
    assert Image.open(out).format == "JPEG"
    shown = lines(call("explain", scan_file, pictures / "p1.png", "x", "--phrase", "鹤", "--out", out))
    assert shown[0].startswith("score ")


def test_rerank_reads_and_writes_trec(call: Call, scan_file: Path, captions: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert call("index", "build", scan_file, "--data", captions, "--out", store).exit_code == 0
    images = [f"{captions.name.removesuffix('-captions.csv')}/p{n}.png" for n in range(4)]
    first = tmp_path / "first.trec"
    first.write_text(
        "".join(f"p{n}.png-zh Q0 {i} {r} {9 - r} bm25\n" for n in range(3) for r, i in enumerate(images, 1))
    )
    out = tmp_path / "scan.trec"
    shown = lines(call("rerank", scan_file, first, "--store", store, "--data", captions, "--out", out))
    assert shown == [f"wrote {out}: 3 queries"]
    after = from_trec(out)
    assert after.query_ids == ("p0.png-zh", "p1.png-zh", "p2.png-zh")
    assert all(sorted(ids) == images for ids in after.ids)
    assert after.tag == "tiny"


def test_evaluate_goes_on_without_the_bad_picture(
    call: Call, scan_file: Path, laclip_file: Path, captions: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results"
    result = call(
        *("evaluate", scan_file, "--data", captions, "--out", out, "--ks", "1,3"),
    )
    shown = "\n".join(lines(result))
    assert "R@3" in shown
    assert result.stderr.count("left out") == 1
    assert "p3x.png" in result.stderr
    assert {path.name for path in out.iterdir()} == {"metrics.json", "tiny.trec", "tiny.yaml", "report.html"}
    metrics = json.loads((out / "metrics.json").read_text())
    assert (metrics["images"], metrics["texts"], len(metrics["skipped"])) == (10, 22, 1)
    resolved = load_config(out / "tiny.yaml")
    assert resolved.as_dict() == read_config(str(scan_file), (), str(captions)).as_dict()
    assert len(from_trec(out / "tiny.trec").query_ids) == 22
    other = yaml.safe_load(laclip_file.read_text())
    other["name"] = "other"
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(other))
    both = document(call("evaluate", scan_file, tmp_path / "other.yaml", "--data", captions, "--json"))
    page = call("evaluate", scan_file, tmp_path / "other.yaml", "--data", captions, "--out", tmp_path / "both")
    assert "-0.0" not in page.stdout
    assert "encode   shared" in page.stdout
    # In the chart of recall against time the second system would else seem to need no encoding.
    assert "were encoded once" in (tmp_path / "both" / "report.html").read_text(encoding="utf-8")
    systems = both["systems"]
    assert isinstance(systems, list)
    assert [system["system"] for system in systems] == ["tiny", "other"]
    assert systems[1]["tests_against_first"]["t2i"]["mean_recall"]["p_value"] <= 1


def test_a_text_may_have_a_right_picture_that_cannot_be_read(
    call: Call, scan_file: Path, pictures: Path, tmp_path: Path
) -> None:
    # In Chinese-CLIP's form a text has several pictures; the report shows those that there are.
    (tmp_path / "images").mkdir()
    for number, name in enumerate(("p3x", "p0", "p1")):
        (tmp_path / "images" / f"{number}.png").write_bytes((pictures / f"{name}.png").read_bytes())
    texts = [{"text_id": 1, "text": "蓝地", "image_ids": [0, 1]}, {"text_id": 2, "text": "白鹤", "image_ids": [2]}]
    (tmp_path / "test_texts.jsonl").write_text("\n".join(json.dumps(text) for text in texts))
    data = f"data={{name: chinese_clip, folder: {tmp_path}}}"
    result = call("evaluate", scan_file, "--set", data, "--out", tmp_path / "out", "--ks", "1")
    assert "report.html" in lines(result)[-1]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "cannot be read" in page


def test_recipes_and_configs_go_round(call: Call, tmp_path: Path) -> None:
    assert [line.split()[0] for line in lines(call("recipes", "list"))] == recipe_names()
    assert list(document(call("recipes", "list", "--json"))) == recipe_names()
    copied = tmp_path / "mine.yaml"
    assert lines(call("recipes", "copy", "laclip", "--to", copied)) == [f"wrote {copied}"]
    assert copied.read_text() == call("recipes", "show", "laclip").stdout
    filled = tmp_path / "filled.yaml"
    filled.write_text(call("config", "fill", copied, "--set", "proposer.count=7").stdout)
    assert load_config(filled) == load_config(copied, ["proposer.count=7"])
    schema = document(call("config", "schema", "similarity.scan"))
    assert "temperature" in schema["properties"]  # type: ignore[operator]
    assert document(call("config", "schema"))["title"] == "heritage-align configuration"


def test_check_says_what_fits_together(call: Call, laclip_file: Path) -> None:
    assert "fits together (cn_clip -> random_crops" in lines(call("config", "check", laclip_file))[0]


def test_plugins_are_listed_shown_checked_and_made(call: Call, tmp_path: Path) -> None:
    listed = lines(call("plugins", "list", "--kind", "filter"))
    assert any("filter.sift" in line for line in listed)
    records = json.loads(call("plugins", "list", "--json").stdout)
    assert {"sift", "grids"} <= {record["name"] for record in records}
    assert any("min_keypoints" in line for line in lines(call("plugins", "show", "sift")))
    assert document(call("plugins", "show", "sift", "--json"))["state"] == "ok"
    assert lines(call("plugins", "check", "sift"))[0] == "filter.sift: imports"
    assert lines(call("plugins", "new", "silk-colours", "--to", tmp_path)) == [f"wrote {tmp_path / 'silk-colours'}"]


def test_doctor(call: Call) -> None:
    assert any(line.startswith("ok  torch") for line in lines(call("doctor")))
    findings = json.loads(call("doctor", "--json").stdout)
    assert {"name", "state", "detail"} == set(findings[0])


def test_json_is_all_that_stands_on_stdout(scan_file: Path, scan_store: Path, captions: Path, tmp_path: Path) -> None:
    for arguments in (
        ["index", "build", str(scan_file), "--out", str(tmp_path / "store"), "--json"],
        ["evaluate", str(scan_file), "--data", str(captions), "--json", "--out", str(tmp_path / "out")],
        ["search", str(scan_file), "鹤", "--store", str(scan_store), "--json"],
    ):
        result = CliRunner().invoke(cli, arguments)
        assert result.exit_code == 0
        json.loads(result.stdout)


def test_evaluate_from_a_store_is_evaluating_the_pictures(
    call: Call, scan_file: Path, captions: Path, tmp_path: Path
) -> None:
    exact = ("--set", "store.dtype=fp32")
    call("index", "build", scan_file, "--data", captions, "--out", tmp_path / "store", *exact)
    asked = ("evaluate", scan_file, "--data", captions, *exact)
    encoded, stored = (document(call(*asked, *more, "--json")) for more in ((), ("--store", tmp_path / "store")))
    for record in (encoded, stored):
        for system in record["systems"]:  # type: ignore[attr-defined]
            for key in [key for key in system if "seconds" in key]:
                del system[key]
    assert stored["systems"] == encoded["systems"]
    result = call(*asked, "--store", tmp_path / "store", "--out", tmp_path / "out")
    assert "p3x.png: is not in the store" in result.stderr  # the picture that could not be read, and counts as missed
    assert (tmp_path / "out" / "report.html").exists()
    other = call("evaluate", scan_file, "--data", captions, "--set", "proposer.count=2", "--store", tmp_path / "store")
    assert other.exit_code == 2
    assert "was made with proposer.count: 3 (the config has 2)" in other.stderr
    repeated = call(*asked, "--store", tmp_path / "store", "--repeats", "2")
    assert "--store: holds the features of one seed" in repeated.stderr


def test_evaluate_wants_a_store_of_its_pictures(call: Call, scan_file: Path, scan_store: Path, captions: Path) -> None:
    # The table calls the pictures folder/p0.png, the folder p0.png.
    result = call("evaluate", scan_file, "--data", captions, "--store", scan_store)
    assert result.exit_code == 2
    assert f"{scan_store}: holds none of the pictures of data set" in result.stderr
