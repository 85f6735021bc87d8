"""A user's mistake ends in one message that names the thing, and exit status 2."""

from __future__ import annotations

import json
import shlex
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import Result
from PIL import Image

Call = Callable[..., Result]
Refused = Callable[..., str]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe\x00bin", "it is not UTF-8"),
        (b"- a", "expected a mapping at the top, got list"),
        (b"", "expected a mapping at the top, got NoneType"),
        (b"a: [", "is not YAML"),
        (b"a: 2024-99-99", "is not YAML"),
        (b"name: x", "encoder: is missing"),
    ],
)
def test_files_that_are_no_config(refused: Refused, tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_bytes(content)
    shown = refused("config", "check", file)
    assert message in shown
    assert "wrong.yaml" in shown


def test_names_that_are_no_config(refused: Refused, tmp_path: Path) -> None:
    assert "is a folder" in refused("config", "check", tmp_path)
    assert "Did you mean 'laclip'?" in refused("config", "check", "laclp")
    assert "no such file" in refused("config", "check", "x" * 5000)
    assert "no such file" in refused("config", "check", "")
    assert "no such command 'serch'. Did you mean 'search'?" in refused("serch")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("similarity.temperatur=3", "Did you mean 'temperature'?"),
        ("similarity.name=scam", "Did you mean 'scan'?"),
        ("proposer.count=0", "proposer.count: Input should be greater than or equal to 1"),
        ("encodr.model=x", "encodr: unknown key. Did you mean 'encoder'?"),
        ("runtime.device=gpu", "runtime.device"),
        ("runtime.device=meta", "runtime.device"),
        ("name=a/b", "name: names files"),
        ("similarity.temperature", "is not of the form a.b=value"),
        ("similarity=[[[", "the value is not YAML"),
        ("filters.0.name=sift", "filters: expected a list, for example [...]"),
        ("filters=sift", "filters: expected a list, for example [sift]"),
        ("encoder=cn_clip", "encoder: expected a mapping with a name, for example {name: cn_clip} (got 'cn_clip')"),
        (
            "search.last=keypoints",
            "1 problem\n  search.last: expected a mapping with a name, for example {name: keypoints}",
        ),
        ("search=5", "search: expected settings by name (got 5)"),
        ("runtime.device=tpu", "runtime.device: expected auto, cpu, cuda or cuda:N (got 'tpu')"),
        ("name=2024", "name: expected a text; put it into quotes (got 2024)"),
        ("name=", "name: expected a text (got None)"),
        ("search.top_k=yes", "search.top_k: expected a number (got True)"),
        ("proposer.count=true", "proposer.count: expected a number (got True)"),
        ("encoder.context_length=100", "encoder: context_length: tiny has positions for 64 tokens, got 100"),
        ("encoder.image_size=1000000", "encoder.image_size: Input should be less than or equal to 4096"),
        ("runtime.seed=99999999999999999999999", "an integer of more than 64 bits"),
    ],
)
def test_overrides_that_do_not_fit(refused: Refused, laclip_file: Path, override: str, message: str) -> None:
    assert message in refused("config", "check", laclip_file, "--set", override)


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 3")],
    ids=["python", "torch"],
)
def test_memory_that_does_not_suffice_is_one_line(
    refused: Refused, laclip_file: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("heritage_align.cli.config.read_config", fail)
    shown = refused("config", "check", laclip_file)
    assert "error: there is not enough memory" in shown
    assert "runtime.batch_size" in shown


def test_components_and_plugins_that_there_are_not(refused: Refused) -> None:
    assert "unknown kind 'simlarity'" in refused("config", "schema", "simlarity.scan")
    assert "unknown similarity 'scam'" in refused("config", "schema", "similarity.scam")
    assert "KIND.NAME" in refused("config", "schema", "scan")
    assert "unknown recipe 'scam'" in refused("recipes", "show", "scam")
    assert "Did you mean 'grids'?" in refused("plugins", "show", "grid")
    assert "there is no plugin" in refused("plugins", "check", "grid")
    assert "is not one of" in refused("plugins", "list", "--kind", "colour")
    assert "is no name for a plugin" in refused("plugins", "new", "Bad name!")


def test_places_that_cannot_be_written(
    refused: Refused, scan_file: Path, scan_store: Path, captions: Path, pictures: Path, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    picture = pictures / "p0.png"
    assert "file" in refused("recipes", "copy", "laclip", "--to", file / "x.yaml")
    assert "exists already" in refused("recipes", "copy", "laclip", "--to", file)
    assert str(tmp_path) in refused("recipes", "copy", "laclip", "--to", tmp_path, "--force")
    assert "file" in refused("plugins", "new", "silk-colours", "--to", file)
    assert "cannot be made" in refused("index", "build", scan_file, "--out", file / "store")
    assert "cannot be made" in refused("evaluate", scan_file, "--data", captions, "--out", file / "out")
    assert "must end in .png" in refused("explain", scan_file, picture, "a text", "--out", tmp_path / "x.tiff")
    assert "there is no folder" in refused("explain", scan_file, picture, "a text", "--out", tmp_path / "no" / "x.png")
    search = ("search", scan_file, "--store", scan_store, "白鹤", "--explain")
    assert "there is no folder" in refused(*search, tmp_path / "no" / "x.png")
    (tmp_path / "folder.png").mkdir()
    assert "is a folder" in refused(*search, tmp_path / "folder.png")
    run = tmp_path / "run.trec"
    run.write_text("a Q0 p0.png 1 0.5 x\n")
    rerank = ("rerank", scan_file, run, "--store", scan_store, "--data", captions, "--out")
    assert "there is no folder" in refused(*rerank, tmp_path / "no" / "out.trec")
    assert "is a folder" in refused(*rerank, tmp_path)


def test_stores_that_are_none(
    refused: Refused, scan_file: Path, scan_store: Path, laclip_store: Path, tmp_path: Path
) -> None:
    def search(config: Path, store: Path) -> str:
        return refused("search", config, "白鹤", "--store", store)

    assert "there is no store" in search(scan_file, tmp_path / "none")
    assert "holds no store" in search(scan_file, tmp_path)
    assert "there is no store" in search(scan_file, scan_file)
    refusal = (
        'was made with folding similarity.name: "laclip" (the config has nothing); use the config it was made with'
    )
    assert refusal in search(scan_file, laclip_store)
    half = tmp_path / "half"
    shutil.copytree(scan_store, half)
    (half / "manifest.json").unlink()
    assert "is half built" in search(scan_file, half)
    assert "is half built" in refused("index", "info", half)
    assert "is half built" in refused("index", "verify", half)
    cut = tmp_path / "cut"
    shutil.copytree(scan_store, cut)
    shard = cut / "shard-00001.safetensors"
    shard.write_bytes(shard.read_bytes()[:-100])
    remedy = f"heritage-align index update {cut} encodes its pictures again"
    for said in (search(scan_file, cut), refused("index", "verify", cut)):
        assert "shard-00001.safetensors: is not a whole shard" in said
        assert remedy in said
    shard.unlink()
    for said in (search(scan_file, cut), refused("index", "verify", cut)):
        assert f"shard-00001.safetensors: is missing; {remedy}" in said
    other = tmp_path / "other"
    shutil.copytree(scan_store, other)
    for name in ("build.json", "manifest.json"):
        document = (other / name).read_text()
        (other / name).write_text(document.replace("cn_clip/tiny", "cn_clip/large"))
    assert "was made by encoder cn_clip/large" in search(scan_file, other)
    for name, content in (("manifest.json", "[]"), ("manifest.json", "{"), ("manifest.json", '{"build": 1}')):
        (other / name).write_text(content)
        assert name in search(scan_file, other)


@pytest.mark.parametrize("command", ["build", "update"])
@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("left", [-100, 20, 0])
def test_a_shard_that_was_cut_is_made_again(
    call: Call, scan_file: Path, scan_store: Path, tmp_path: Path, command: str, finished: bool, left: int
) -> None:
    cut = tmp_path / "馆藏 库"
    shutil.copytree(scan_store, cut)
    shard = cut / "shard-00001.safetensors"
    shard.write_bytes(shard.read_bytes()[:left])
    if not finished:
        (cut / "manifest.json").unlink()
    done = call("index", "build", scan_file, "--out", cut) if command == "build" else call("index", "update", cut)
    if command == "update" and not finished:
        assert "is half built; run the same index build again" in done.stderr
        return
    assert done.exit_code == 0, done.stderr
    if command == "build":
        assert f"made again {shard}: it was not whole" in done.stderr
        assert "1 written, 2 were there" in done.stdout
        assert {p.name: p.read_bytes() for p in cut.iterdir()} == {p.name: p.read_bytes() for p in scan_store.iterdir()}
    assert call("index", "verify", cut).exit_code == 0
    ids = {hit["id"] for hit in json.loads(call("search", scan_file, "白鹤", "--store", cut, "--json").stdout)["hits"]}
    assert ids == {f"p{number}.png" for number in range(10)}


@pytest.mark.parametrize("share", ["3/2", "0/2", "1", "a/b", "1/2/3", "", "-1/2", "²/3"])
def test_shares_that_are_none(refused: Refused, scan_file: Path, tmp_path: Path, share: str) -> None:
    assert "expected I/N" in refused("index", "build", scan_file, "--out", tmp_path / "s", "--shard", share)
    assert not (tmp_path / "s").exists()


def test_queries_that_are_none(
    refused: Refused, scan_file: Path, scan_store: Path, pictures: Path, tmp_path: Path
) -> None:
    search = ("search", scan_file, "--store", scan_store)
    assert "give a text, --image or --queries" in refused(*search)
    assert "give a text, --image or --queries" in refused(*search, "白鹤", "--image", pictures / "p0.png")
    assert "is empty" in refused(*search, "")
    assert "is empty" in refused(*search, " \n\t　")
    assert "top_k is 0" in refused(*search, "白鹤", "--top-k", "0")
    assert "top_k is -1" in refused(*search, "白鹤", "--top-k", "-1")
    assert "none.png: no such file" in refused(*search, "--image", tmp_path / "none.png")
    assert "is a folder, not a picture" in refused(*search, "--image", tmp_path)
    assert "p3x.png" in refused(*search, "--image", pictures / "p3x.png")
    assert "needs a text" in refused(*search, "--image", pictures / "p0.png", "--explain", tmp_path / "x.png")
    assert "needs a text" in refused(*search, "--image", pictures / "p0.png", "--phrase", "白鹤")
    picture = ("--image", pictures / "p0.png")
    for box in ("1,2,3", "1,2,3,x", "1,2,0,4", "1,2,3,-4", "1,2,nan,4", "1,2,inf,4", "", "pct:", "percent:1,2,3,4"):
        assert "expected x,y,w,h in pixels or pct:x,y,w,h" in refused(*search, *picture, "--box", box)
    assert "has no area within the picture of 48 x 40 pixels" in refused(*search, *picture, "--box", "48,0,5,5")
    assert "there are 3 for 2 --image" in refused(*search, *picture, *picture, *["--box", "0,0,9,9"] * 3)
    assert "--image: is empty; name a picture" in refused(*search, *picture, "--image", " ")
    assert "--whole: compares one picture" in refused(*search, *picture, *picture, "--whole")
    assert "--weight: is that of --text" in refused(*search, *picture, "--weight", "0.3")
    assert "--weight: expected 0 to 1, got 1.5" in refused(*search, *picture, "--text", "鹤", "--weight", "1.5")
    assert "--weight: expected 0 to 1, got nan" in refused(*search, *picture, "--text", "鹤", "--weight", "nan")
    assert "is empty" in refused(*search, *picture, "--text", " 　")
    for option in (("--box", "0,0,9,9"), ("--whole",), ("--text", "鹤"), ("--weight", "0.5")):
        assert f"{option[0]}: is about a picture; it needs --image" in refused(*search, "白鹤", *option)
    assert "no such file" in refused("explain", scan_file, tmp_path / "none.png", "白鹤")
    assert "is empty" in refused("explain", scan_file, pictures / "p0.png", " ")
    assert "scores whole pictures" in refused(
        *("explain", scan_file, pictures / "p0.png", "a", "--set", "proposer=", "--set", "similarity={name: global}")
    )


def test_search_shows_its_hits_before_it_says_that_it_cannot_explain(
    call: Call, refused: Refused, scan_file: Path, scan_store: Path, captions: Path, tmp_path: Path
) -> None:
    store = shutil.copytree(scan_store, tmp_path / "store")
    (store / "config.yaml").unlink()  # it says where the pictures were
    search = ("search", scan_file, "白鹤", "--store", store)
    hits = call(*search).stdout
    assert len(hits.splitlines()) == 10

    def shown(*more: str | Path) -> str:
        result = call(*search, "--explain", tmp_path / "x.png", *more)
        assert (result.exit_code, result.stdout) == (2, hits)
        assert result.stderr.count("error:") == 1
        return result.stderr

    says = "--explain: draws on a picture, and no data set"
    assert f"{says} says where they are; add data, or --data PATH" in shown("--set", "data=")
    assert f"{says} has those of the store; add data, or --data PATH" in shown("--data", captions)
    result = call(*search, "--explain", tmp_path / "x.png", "--set", "data=", "--json")
    assert len(json.loads(result.stdout)["hits"]) == 10
    assert says in result.stderr
    assert "none.csv" in refused(*search, "--explain", tmp_path / "x.png", "--data", tmp_path / "none.csv")


def test_runs_and_texts_that_do_not_belong(
    refused: Refused, scan_file: Path, scan_store: Path, captions: Path, tmp_path: Path
) -> None:
    def rerank(content: str | bytes) -> str:
        run = tmp_path / "run.trec"
        run.write_bytes(content if isinstance(content, bytes) else content.encode())
        return refused(
            *("rerank", scan_file, run, "--store", scan_store, "--data", captions, "--out", tmp_path / "out.trec")
        )

    image = f"{captions.name.removesuffix('-captions.csv')}/p0.png"
    assert "holds no run" in rerank("")
    assert "expected 6 fields" in rerank("a b c\n")
    assert "is not UTF-8" in rerank(b"\xff\xfe Q0 a 1 1 t\n")
    assert "have no text" in rerank("nobody Q0 p0.png 1 0.5 t\n")
    assert "is not a number" in rerank("p0.png-zh Q0 p0.png 1 high t\n")
    assert f"holds no image '{image}'" in rerank(f"p0.png-zh Q0 {image} 1 0.5 t\n")
    assert not (tmp_path / "out.trec").exists()


@pytest.mark.parametrize("ks", ["", "a", "0", "5,1", "1,1", "1;5", "1.5"])
def test_cut_offs_that_are_none(refused: Refused, scan_file: Path, captions: Path, ks: str) -> None:
    assert "--ks: expected ascending numbers" in refused("evaluate", scan_file, "--data", captions, "--ks", ks)


def test_data_that_is_none(refused: Refused, scan_file: Path, pictures: Path, tmp_path: Path) -> None:
    def evaluate(data: Path) -> str:
        return refused("evaluate", scan_file, "--data", data)

    assert "has no texts" in evaluate(pictures)
    assert "none.csv: there is no such file or folder" in evaluate(tmp_path / "none.csv")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "has no pictures" in evaluate(empty)
    assert "has no pictures" in refused("index", "build", scan_file, "--data", empty, "--out", tmp_path / "s")
    table = tmp_path / "rows.jsonl"
    good = {"image": "a.png", "text": "蓝地"}
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    for row, message in (
        ({"image": "a.png", "text": ""}, "rows.jsonl:2: 'text'"),
        ({"image": "a.png", "text": "  "}, "rows.jsonl:2: 'text'"),
        ({"image": "a.png", "text": 7}, "rows.jsonl:2: 'text'"),
        ({"image": "a.png", "text": None}, "rows.jsonl:2: 'text'"),
        ({"image": "a.png"}, "has no 'text'"),
        ({"image": "../a.png", "text": "x"}, "leads out of"),
        ({"image": "a.png", "text": "x", "phrases": 3}, "rows.jsonl:2: 'phrases'"),
        ([], "expected an object"),
    ):
        table.write_text(json.dumps(good) + "\n" + json.dumps(row) + "\n")
        assert message in evaluate(table)
    table.write_text(json.dumps({**good, "id": "1"}) + "\n" + json.dumps({**good, "id": "1"}) + "\n")
    assert "text id '1' was already used at" in evaluate(table)
    table.write_text(json.dumps({"image": "b.png", "text": "x"}) + "\n")
    assert "none of the 1 pictures exists" in evaluate(table)
    (tmp_path / "rows.txt").write_text("x")
    assert "rows.txt: has no rows" in evaluate(tmp_path / "rows.txt")
    (tmp_path / "rows.md").write_text("x")
    assert "rows.md: is not .csv" in evaluate(tmp_path / "rows.md")


def test_checkpoints_of_another_architecture(
    refused: Refused, scan_file: Path, tiny_checkpoint: Path, pictures: Path, tmp_path: Path
) -> None:
    def explain(*more: str) -> str:
        sets = [part for setting in more for part in ("--set", setting)]
        return refused("explain", scan_file, pictures / "p0.png", "x", *sets)

    junk = tmp_path / "junk.safetensors"
    junk.write_bytes(b"no weights")
    assert "junk.safetensors" in explain(f"encoder.model={junk}")
    assert "junk.safetensors" in explain("encoder.model=ViT-B-16", f"encoder.checkpoint={junk}")
    shown = explain("encoder.model=RN50", f"encoder.checkpoint={tiny_checkpoint}")
    assert "the weights are not of RN50" in shown
    assert "(64, 3, 16, 16), not (32, 3, 3, 3)" in shown
    pickled = tmp_path / "other.pt"
    torch.save({"state_dict": {"layer.weight": torch.zeros(3)}}, pickled)
    assert "other.pt" in explain("encoder.model=ViT-B-16", f"encoder.checkpoint={pickled}")
    assert "there is no file" in explain("encoder.model=none.safetensors")


@pytest.mark.parametrize("command", ["evaluate", "golden"])
def test_two_systems_of_one_name(
    call: Call, refused: Refused, scan_file: Path, captions: Path, tmp_path: Path, command: str
) -> None:
    said = refused(command, scan_file, scan_file, "--data", captions)
    assert f"2 configs have the same name 'tiny' ({scan_file}, {scan_file})" in said
    if command == "golden":  # whose data must be of another kind
        return
    fill, name = said.partition("heritage-align ")[2].partition(" > ")[::2]
    other = tmp_path / name.partition(";")[0]
    other.write_text(call(*shlex.split(fill)).stdout, encoding="utf-8")
    shown = call("evaluate", scan_file, other, "--data", captions)
    assert shown.exit_code == 0, shown.stderr
    assert "tiny-2" in shown.stdout


@pytest.mark.parametrize("option", ["--data", "--features"])
def test_an_empty_path_is_not_the_folder_that_we_are_in(refused: Refused, option: str) -> None:
    assert f"'{option}': is empty; name a file or folder" in refused("evaluate", "global", option, " ")
    assert f"'{option}': is empty; name a file or folder" in refused("train", "cca", option, "")


@pytest.mark.parametrize(
    "command",
    [
        ("index", "build", "global", "--out", ""),
        ("index", "merge", "a", "--out", " "),
        ("train", "cca", "--out", ""),
        ("evaluate", "global", "--out", ""),
        ("search", "global", "vase", "--store", ""),
        ("recipes", "copy", "laclip", "--to", ""),
        ("demo", "--out", ""),
    ],
)
def test_no_more_is_an_empty_place_to_write_to(
    refused: Refused, command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert f"'{command[-2]}': is empty; name a file or folder" in refused(*command)
    assert "'STORE': is empty" in refused("index", "update", "")
    assert list(tmp_path.iterdir()) == []


def test_a_setting_that_does_not_suit_the_model_is_one_line(refused: Refused, tmp_path: Path) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    build = ("index", "build", "global", "--data", tmp_path, "--out", tmp_path / "s")
    shown = refused(*build, "--set", "encoder.context_length=9999")
    assert "encoder: context_length: motif-small has positions for 64 tokens, got 9999" in shown
    assert not (tmp_path / "s").exists()


def test_serve(refused: Refused, laclip_file: Path, laclip_store: Path, tmp_path: Path) -> None:
    store = ("--store", laclip_store)
    assert "cannot be read" in refused("serve", laclip_file, *store, "--settings", tmp_path / "none.yaml")
    assert "cannot be read" in refused("serve", laclip_file, *store, "--token-file", tmp_path / "none")
    (tmp_path / "settings.yaml").write_text("wating: 5\nbatch: 0\n")
    shown = refused("serve", laclip_file, *store, "--settings", tmp_path / "settings.yaml")
    assert "wating" in shown
    assert "batch" in shown
    assert "two recipes have this name" in refused("serve", laclip_file, *store, "--also", laclip_file, laclip_store)
    assert "'--host': is empty; name an address" in refused("serve", laclip_file, *store, "--host", "")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "ddress already in use" in refused("serve", laclip_file, *store, "--port", taken.getsockname()[1])
