"""``models check`` and the pinned revision, on a cache of the hub that is laid out as its library does."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner, Result
from safetensors.torch import load_file, save_file

from heritage_align import Pipeline, Store, build_index, dataset_sources
from heritage_align.cli import cli
from heritage_align.config import load_config
from heritage_align.data import Motifs
from heritage_align.model_files import card_license

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "silk/crane-tiny"
CARD = "---\nlanguage: zh\nlicense: cc-by-nc-4.0\n---\n# 团窠对鸟\n"


@pytest.fixture
def cache(folders: dict[str, Path], hub_cache: Callable[..., Path]) -> Path:
    """A cache with one model; returns its snapshot's folder."""
    snapshot = hub_cache(NAME, folders["chinese_clip"], COMMIT)
    put(snapshot, "README.md", CARD.encode())
    return snapshot


def put(snapshot: Path, name: str, content: bytes) -> None:
    """Put a file in the place of a link to the cache's."""
    (snapshot / name).unlink(missing_ok=True)
    (snapshot / name).write_bytes(content)


def check(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["models", "check", *arguments])


def report(*arguments: str) -> dict[str, Any]:
    (found,) = json.loads(check(*arguments, "--json").stdout)
    assert isinstance(found, dict)
    return found


def test_a_model_of_the_cache_is_told_in_full(cache: Path) -> None:
    result = check(NAME)
    assert result.exit_code == 0, result.output
    found = report(NAME)
    assert found["component"] == "encoder.transformers"
    assert (found["revision"], found["license"], found["folder"]) == (COMMIT, "cc-by-nc-4.0", str(cache))
    assert found["get"] is None
    assert [(file["part"], file["name"]) for file in found["files"]] == [
        ("settings", "config.json"),
        ("weights", "model.safetensors"),
        ("tokenizer", "tokenizer.json"),
        ("tokenizer", "tokenizer_config.json"),
        ("pictures", "preprocessor_config.json"),
    ]
    for file in found["files"]:
        content = (cache / file["name"]).read_bytes()
        assert (file["bytes"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        assert file["sha256"] in result.stdout


def test_a_file_whose_content_is_gone_is_missing(cache: Path) -> None:
    (cache / "model.safetensors").resolve().unlink()
    result = check(NAME)
    assert result.exit_code == 2
    assert "--  weights    model.safetensors or model.safetensors.index.json or" in result.stdout
    assert f"get it    hf download {NAME}\n" in result.stdout


@pytest.mark.usefixtures("cache")
def test_the_command_names_the_revision(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump(document(revision="v2")), encoding="utf-8")
    found = report(str(config))
    assert found["get"] == f"hf download {NAME} --revision v2"
    assert (found["folder"], found["revision"], found["license"], found["whole"]) == (None, None, None, False)
    assert all(file["state"] == "missing" for file in found["files"])
    assert report(str(config), "--set", "encoder.revision=main")["whole"]


def test_parts_of_weights_are_looked_for_by_their_index(cache: Path) -> None:
    tensors = load_file(cache / "model.safetensors")
    (cache / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"model-1-of-2.safetensors": names[::2], "model-2-of-2.safetensors": names[1::2]}
    for part, held in parts.items():
        save_file({name: tensors[name] for name in held}, cache / part)
    index = {"weight_map": {name: part for part, held in parts.items() for name in held}}
    put(cache, "model.safetensors.index.json", json.dumps(index).encode())
    weights = [file["name"] for file in report(NAME)["files"] if file["part"] == "weights"]
    assert weights == ["model.safetensors.index.json", *parts]
    (cache / "model-2-of-2.safetensors").unlink()
    lacking = [file for file in report(NAME)["files"] if file["state"] != "ok"]
    assert [(file["name"], file["state"]) for file in lacking] == [("model-2-of-2.safetensors", "missing")]
    for nonsense in (b"[1]", b"{", b'{"weight_map": 3}'):
        put(cache, "model.safetensors.index.json", nonsense)
        assert [f["state"] for f in report(NAME)["files"] if f["part"] == "weights"] == ["ok", "broken"], nonsense


def test_a_pointer_is_not_the_file(cache: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 753000000\n"
    put(cache, "model.safetensors", pointer)
    result = check(NAME)
    assert result.exit_code == 2
    assert "is a Git LFS pointer of the file of 718.1 MiB" in result.stdout


def test_weights_that_are_cut_off_are_not_ok(cache: Path) -> None:
    whole = (cache / "model.safetensors").read_bytes()
    put(cache, "model.safetensors", whole[:-1])
    result = check(NAME)
    assert result.exit_code == 2
    assert f"is cut off: it has {len(whole) - 1} bytes and should have {len(whole)}" in result.stdout


def test_half_a_tokenizer_is_none(cache: Path) -> None:
    (cache / "tokenizer.json").unlink()
    put(cache, "vocab.json", b"{}")
    states = {file["part"]: file["state"] for file in report(NAME)["files"] if file["name"] != "tokenizer_config.json"}
    assert states["tokenizer"] == "missing"
    put(cache, "merges.txt", b"a b\n")
    names = [file["name"] for file in report(NAME)["files"] if file["part"] == "tokenizer"]
    assert names == ["vocab.json", "merges.txt", "tokenizer_config.json"]


def test_a_folder_is_checked_where_it_is(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "钱币"
    shutil.copytree(folders["siglip"], folder)
    assert report(str(folder))["whole"]
    (folder / "preprocessor_config.json").unlink()
    found = report(str(folder))
    assert found["get"] == f"hf download OWNER/NAME --local-dir '{folder}'"
    assert found["license"] is None


def test_an_fg_clip_and_a_bert_are_known_by_their_files(cache: Path) -> None:
    for kind, component in (("fgclip2", "encoder.fg_clip"), ("bert", "encoder.bert")):
        put(cache, "config.json", json.dumps({"model_type": kind}).encode())
        assert report(NAME)["component"] == component
    put(cache, "config.json", b'{"model_type": "t5"}')
    assert check(NAME).exit_code == 2
    assert report("qihoo360/fg-clip2-base")["component"] == "encoder.fg_clip"  # by its name alone: it is not here


@pytest.mark.parametrize("name", ["", " ", "nonsense", "a/b/c", "a b/c", "丝/绸", "c.yaml", "../x/y"])
def test_what_no_one_knows_is_one_error(name: str) -> None:
    result = check(name)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")


def test_set_is_for_configs() -> None:
    result = check(NAME, "--set", "encoder.revision=v2")
    assert (result.exit_code, "--set: changes a config or recipe" in result.stderr) == (2, True)


def test_the_folder_of_cn_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("heritage_align_plugins.cn_clip.config.CACHE", tmp_path / "clip")
    found = report("ViT-B-16")
    file = "clip_cn_vit-b-16.pt"
    assert found["get"] == f"hf download OFA-Sys/chinese-clip-vit-base-patch16 {file} --local-dir {tmp_path / 'clip'}"
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / file).write_bytes(b"weights")
    assert report("ViT-B-16")["whole"]


def test_cn_clip_names_the_same_files() -> None:
    from cn_clip.clip.utils import _HUGGINGFACE_ORG, _MODELS
    from heritage_align_plugins.cn_clip.architecture import PUBLISHED

    assert {name: (f"{_HUGGINGFACE_ORG}/{repo}", file) for name, (repo, file) in _MODELS.items()} == PUBLISHED


def test_files_of_settings_count_and_torch_has_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    proposer = ["--set", "proposer.name=faster_rcnn"]
    found = json.loads(check("laclip", *proposer, "--json").stdout)
    assert [one["component"] for one in found] == ["encoder.cn_clip", "proposer.faster_rcnn"]
    target, url = found[1]["get"].removeprefix("curl -L --create-dirs -o ").split(" ")
    assert (Path(target).parent, Path(target).name) == (tmp_path / "checkpoints", url.rsplit("/", 1)[1])
    weights = tmp_path / "detector.pth"
    found = json.loads(check("laclip", *proposer, "--set", f"proposer.weights={weights}", "--json").stdout)
    assert [(file["part"], file["state"]) for file in found[1]["files"]] == [("weights", "missing")]
    assert found[1]["get"] is None


ALIASES = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 31))
"""A list of 2^30 words."""
MERGES = "k: &k {" + ", ".join(f"k{i}: 1" for i in range(3000)) + "}\n" + "m: {<<: *k}\n" * 3500
"""80 KB that are 10,500,000 keys."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (CARD, "cc-by-nc-4.0"),
        ("---\nlicense: other\nlicense_name: qwen-research\n---\n", "other (qwen-research)"),
        ("---\nlicense: [mit, apache-2.0]\n---\n", "mit, apache-2.0"),
        ("---\r\nlicense: mit\r\n---\r\n# x", "mit"),
        ("---\nlicense: [\n---\n", None),
        ("---\nlicense: 2024-99-99\n---\n", None),
        ("---\nlicense: !!bool maybe\n---\n", None),
        ("---\nlicense: " + "[" * 3000 + "\n---\n", None),
        ("---\nlanguage: zh\n---\n", None),
        ("# license: mit\n---\nlicense: mit\n---\n", None),
        ("---\nlicense: mit\n", None),
        ("", None),
        ("---\nlicense: mit\nlicense: apache-2.0\n---\n", "apache-2.0"),  # as the hub's own reader
        ("---\nlicense: mit\nlicense_name: [x]\n---\n", "mit"),
        (f"---\n{ALIASES}license: *a30\n---\n", None),
        (f"---\n{ALIASES}license: [mit, *a30]\n---\n", "mit"),
        (f"---\n{MERGES}license: mit\n---\n", None),
    ],
)
def test_the_license_of_a_card(text: str, expected: str | None, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(text.encode())
    assert card_license(tmp_path / "README.md") == expected
    assert card_license(tmp_path) is None  # a folder


def document(**settings: Any) -> dict[str, Any]:
    encoder = {"name": "transformers", "model": NAME, **settings}
    return {"version": 1, "name": "pinned", "encoder": encoder, "similarity": {"name": "global"}}


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_a_written_configuration_names_the_commit(revision: str | None) -> None:
    config = load_config(document(revision=revision))
    assert yaml.safe_load(config.to_yaml())["encoder"]["revision"] == COMMIT
    assert config.as_dict()["encoder"]["revision"] == revision


@pytest.mark.usefixtures("cache")
def test_a_run_goes_on_with_the_configuration_that_was_written_of_it() -> None:
    """Trainers compare what `without_revisions` gives, here of an encoder below another as well."""
    below = {"name": "alignment", "checkpoint": "model.safetensors", "base": document()["encoder"]}
    for asked in (document(), {**document(), "encoder": below}):
        config = load_config(asked)
        written = load_config(yaml.safe_load(config.to_yaml()))
        assert written.as_dict() != config.as_dict()
        assert written.without_revisions() == config.without_revisions()


@pytest.mark.usefixtures("cache")
def test_what_is_not_here_is_not_pinned() -> None:
    assert yaml.safe_load(load_config(document(revision="v2")).to_yaml())["encoder"]["revision"] == "v2"
    config = load_config({**document(), "encoder": {"name": "transformers", "model": "silk/other"}})
    assert yaml.safe_load(config.to_yaml())["encoder"]["revision"] is None


@pytest.mark.usefixtures("cache")
def test_a_store_is_read_with_the_configuration_that_lies_in_it(tmp_path: Path) -> None:
    """Pinned, as it is written, and as it was: the same store, without the network."""
    made = Pipeline.from_config(document())
    build_index(made, dataset_sources(Motifs("test", artworks=2, variants=1)), tmp_path / "store")
    written = tmp_path / "store" / "config.yaml"
    assert yaml.safe_load(written.read_text(encoding="utf-8"))["encoder"]["revision"] == COMMIT
    for source in (document(), written):
        assert len(Store.open(tmp_path / "store", expect=Pipeline.from_config(source).identity())) == 2
