"""From a folder of pictures, texts and region features to a system that answers, by commands alone."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from click.testing import Result
from PIL import Image

from heritage_align.config import load_config
from heritage_align.data.region_features import RegionFeatures, read_region_features, write_region_features
from heritage_align.recipes import recipe_names, recipe_text

Call = Callable[..., Result]
Refused = Callable[..., str]

ROOT = Path(__file__).parents[2]
MOTIFS = ("lotus", "crane", "dragon", "peony", "云", "浪")
QUICK = (
    "--set", "train.epochs=3", "--set", "train.batch_size=8", "--set", "train.model.dim=16",
    "--set", "train.learning_rate=0.01", "--set", "runtime.device=cpu",
)  # fmt: skip


def write(folder: Path, count: int = 30) -> Path:
    """Write pictures with two motifs each, a table of two texts a picture, and features of two regions."""
    rng = np.random.default_rng(0)
    words = rng.normal(size=(len(MOTIFS), 8))
    (folder / "images").mkdir(parents=True)
    rows, values = [], []
    for number in range(count):
        shown = rng.permutation(len(MOTIFS))[:2]
        Image.fromarray(rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(folder / "images" / f"{number}.png")
        values.append(words[shown] + 0.1 * rng.normal(size=(2, 8)))
        names = [MOTIFS[motif] for motif in shown]
        split = ("train", "train", "train", "val", "test")[number % 5]
        texts = [f"a {names[0]}, a {names[1]}", f"{names[1]}, {names[0]}"]
        rows.append({"picture": f"images/{number}.png", "texts": texts, "split": split})
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "pairs.jsonl").write_text(lines, encoding="utf-8")
    boxes = np.tile(np.array([[0, 0, 0.5, 1], [0.5, 0, 1, 1]], dtype=np.float32), (count, 1))
    features = RegionFeatures(
        "made", tuple(str(row["picture"]) for row in rows), np.arange(count + 1) * 2,
        np.concatenate(values).astype(np.float32), boxes, keypoints=rng.integers(0, 6, 2 * count),
    )  # fmt: skip
    write_region_features(folder / "region_features.safetensors", features)
    return folder


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("given") / "collection")


@pytest.fixture(scope="module")
def run(collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of recipe scan-gb."""
    from click.testing import CliRunner

    from heritage_align.cli import cli

    folder = tmp_path_factory.mktemp("trained") / "run"
    done = CliRunner().invoke(cli, ["train", "scan-gb", "--data", str(collection), "--out", str(folder), *QUICK])
    assert done.exit_code == 0, done.output
    assert f"wrote {folder / 'config.yaml'} (config)" in done.stdout
    assert done.stdout.splitlines()[-1] == f"next: heritage-align evaluate {folder / 'config.yaml'}"
    assert done.stdout.startswith("best: epoch ")
    return folder


def loaded(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_run_leaves_everything_to_use_and_to_repeat_it(run: Path, collection: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert names == {
        "config.yaml", "training.yaml", "metrics.json", "model.safetensors", "last.pt", "history.jsonl", "history.svg",
    }  # fmt: skip
    asked, trained = load_config(run / "training.yaml"), load_config(run / "config.yaml")
    assert asked.encoder.as_dict() == {"name": "region_features", "dim": 8}
    assert trained.encoder.as_dict()["checkpoint"] == str(run / "model.safetensors")
    for config in (asked, trained):
        assert config.data is not None
        assert config.data.as_dict()["split"] == "test"
        assert config.data.as_dict()["file"] == str(collection / "pairs.jsonl")
    records = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [0, 1, 2, 3]
    assert json.loads((run / "metrics.json").read_text())["recall"] > 30


def test_a_run_that_is_interrupted_can_be_used_and_goes_on(
    call: Call, run: Path, collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from heritage_align_plugins.alignment.task import AlignmentTask

    begin = AlignmentTask.begin_epoch

    def interrupted(task: AlignmentTask, epoch: int) -> Any:
        if epoch == 1:
            raise KeyboardInterrupt
        return begin(task, epoch)

    monkeypatch.chdir(tmp_path)
    data = Path(os.path.relpath(collection))
    train = ("train", "scan-gb", "--data", data, "--out", "run", *QUICK)
    with monkeypatch.context() as patch:
        patch.setattr(AlignmentTask, "begin_epoch", interrupted)
        assert call(*train).exit_code == 130
    config = tmp_path / "run" / "config.yaml"
    first = config.read_text()
    found = load_config(config).as_dict()
    assert found["encoder"]["checkpoint"] == str(tmp_path / "run" / "model.safetensors")
    assert Path(found["proposer"]["path"]).is_absolute()
    assert Path(found["data"]["file"]).is_absolute()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert loaded(call("evaluate", config, "--json", "--ks", "1"))["texts"] == 12
    monkeypatch.chdir(tmp_path)
    assert call(*train).exit_code == 0
    assert config.read_text() == first
    assert (tmp_path / "run" / "metrics.json").exists()
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


def test_again_goes_on_and_fresh_refuses(call: Call, refused: Refused, run: Path, collection: Path) -> None:
    before = (run / "model.safetensors").read_bytes()
    again = loaded(call("train", "scan-gb", "--data", collection, "--out", run, *QUICK, "--json"))
    assert again["metrics"] == json.loads((run / "metrics.json").read_text())
    assert again["files"]["model"] == str(run / "model.safetensors")
    assert (run / "model.safetensors").read_bytes() == before
    shown = refused("train", "scan-gb", "--data", collection, "--out", run, *QUICK, "--fresh")
    assert "holds a run already; go on with it (without --fresh) or train into another folder" in shown
    other = ("--set", "train.margin=0.3")
    shown = refused("train", "scan-gb", "--data", collection, "--out", run, *QUICK, *other)
    assert "is of a run with another configuration or other data" in shown
    assert refused("train", "scan", "--data", collection, "--out", run, *QUICK).count("\n") == 1


def test_the_trained_config_evaluates(call: Call, run: Path, collection: Path, tmp_path: Path) -> None:
    found = loaded(call("evaluate", run / "config.yaml", "--json", "--ks", "1,3"))
    assert (found["images"], found["texts"]) == (6, 12)
    again = loaded(call("evaluate", run / "config.yaml", "--data", collection, "--json", "--ks", "1,3"))
    assert again["systems"][0]["t2i"] == found["systems"][0]["t2i"]
    shown = call("evaluate", run / "config.yaml", "--out", tmp_path / "out", "--ks", "1")
    assert shown.exit_code == 0, shown.output
    assert (tmp_path / "out" / "report.html").exists()


def test_the_trained_config_searches_and_explains(call: Call, run: Path, collection: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    built = call("index", "build", run / "config.yaml", "--out", store)
    assert built.exit_code == 0, built.output
    assert "6 images, 0 left out" in built.stdout
    hits = loaded(call("search", run / "config.yaml", "a lotus, a crane", "--store", store, "--json"))["hits"]
    assert len(hits) == 6
    assert [answer["phrase"] for answer in hits[0]["regions"]] == ["a lotus", "a crane"]
    why = call("search", run / "config.yaml", "a lotus", "--store", store, "--explain", tmp_path / "why.png")
    assert why.exit_code == 0, why.output
    alike = loaded(
        call(
            *("search", run / "config.yaml", "--store", store, "--json"),
            *("--image", collection / "images" / "4.png", "--whole"),
        )
    )
    assert alike["hits"][0]["id"] == "images/4.png"
    assert alike["hits"][0]["score"] == pytest.approx(1, abs=1e-3)
    # Features are read from a file: of a box, the picture's own region that shares most with it is looked for.
    part = ("--image", "images/4.png", "--box", "pct:52,5,40,90")
    found = loaded(call("search", run / "config.yaml", "--store", store, "--json", *part))["hits"]
    assert found[0]["id"] == "images/4.png"
    assert found[0]["regions"][0]["box"] == [0.5, 0, 1, 1]
    assert found[0]["score"] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("named", ["a file", "an id"])
def test_explain_looks_a_picture_up_by_its_name(
    call: Call, run: Path, collection: Path, tmp_path: Path, named: str
) -> None:
    image = collection / "images" / "4.png" if named == "a file" else "images/4.png"
    out = tmp_path / "why.png"
    found = loaded(call("explain", run / "config.yaml", image, "a lotus, a crane", "--out", out, "--json"))
    assert [answer["phrase"] for answer in found["phrases"]] == ["a lotus", "a crane"]
    assert all(answer["box"] in ([0, 0, 0.5, 1], [0.5, 0, 1, 1]) for answer in found["phrases"])
    assert Image.open(out).width >= 24


def test_explain_of_a_picture_without_features(refused: Refused, run: Path, tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "new.png")
    shown = refused("explain", run / "config.yaml", tmp_path / "new.png", "a lotus", "--out", tmp_path / "why.png")
    assert "new.png') of 1 have no features" in shown
    assert "ids in the file look like 'images/0.png'" in shown
    assert "no such file" in refused("explain", run / "config.yaml", "images/77.png", "a lotus")


@pytest.mark.parametrize("recipe", [name for name in recipe_names() if "alignment" in recipe_text(name)])
def test_every_recipe_of_the_system_trains_and_runs(call: Call, collection: Path, tmp_path: Path, recipe: str) -> None:
    settings = [part if part != "train.epochs=3" else "train.epochs=1" for part in QUICK]
    trained = call("train", recipe, "--data", collection, "--out", tmp_path / "run", *settings)
    assert trained.exit_code == 0, trained.output
    config = tmp_path / "run" / "config.yaml"
    assert loaded(call("evaluate", config, "--json", "--ks", "1"))["texts"] == 12
    out = tmp_path / "why.png"
    explained = call("explain", config, collection / "images" / "4.png", "a lotus", "--out", out)
    assert explained.exit_code == 0, explained.output


def test_pictures_under_an_encoder(call: Call, tmp_path: Path) -> None:
    """Without region features: crops of the motif collection through the small encoder, which is trained upon."""
    motifs = "{name: motifs, split: %s, artworks: 3, variants: 1, size: 64}"
    data = [f"train.{key}={motifs % split}" for key, split in (("data", "train"), ("validation", "val"))]
    sets = [part for value in (*data, f"data={motifs % 'test'}", "train.epochs=1") for part in ("--set", value)]
    done = call("train", "scan", *QUICK, *sets, "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    config = tmp_path / "run" / "config.yaml"
    assert loaded(call("evaluate", config, "--json", "--ks", "1"))["images"] == 3
    built = call("index", "build", config, "--out", tmp_path / "store")
    assert built.exit_code == 0, built.output
    hits = loaded(call("search", config, "a crane", "--store", tmp_path / "store", "--json"))["hits"]
    assert len(hits) == 3
    explained = call("explain", config, hits[0]["id"], "a crane", "--out", tmp_path / "why.png")
    assert explained.exit_code == 0, explained.output


def test_the_cca_is_trained_by_the_same_command(call: Call, collection: Path, tmp_path: Path) -> None:
    config = {
        "version": 1,
        "name": "linear",
        "encoder": {"name": "region_features", "dim": 8},
        "similarity": {"name": "global"},
        "train": {"name": "cca", "dim": 4},
        "runtime": {"device": "cpu"},
    }
    (tmp_path / "cca.yaml").write_text(yaml.safe_dump(config))
    arguments = ("train", tmp_path / "cca.yaml", "--data", collection, "--out", tmp_path / "run")
    assert call(*arguments).exit_code == 0
    found = loaded(call("evaluate", tmp_path / "run" / "config.yaml", "--json", "--ks", "1,3"))
    assert found["systems"][0]["mean_recall"] > 60


def test_a_similarity_of_whole_pictures_is_reported_and_searched_without_regions(
    call: Call, refused: Refused, collection: Path, tmp_path: Path
) -> None:
    config, store, picture = tmp_path / "run" / "config.yaml", tmp_path / "store", tmp_path / "why.png"
    assert call("train", "cca", "--data", collection, "--out", tmp_path / "run").exit_code == 0
    shown = call("evaluate", config, "--out", tmp_path / "out", "--ks", "1")
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.splitlines()[2].startswith("cca ")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert 'id="queries"' in page
    assert 'id="explanations"' not in page
    fault = "similarity: 'global' scores whole pictures, so there is no region to explain it by; recipes that can: "
    assert fault in refused("explain", config, collection / "images" / "4.png", "a lotus", "--out", picture)
    assert call("index", "build", config, "--out", store).exit_code == 0
    result = call("search", config, "a lotus", "--store", store, "--explain", picture)
    assert (result.exit_code, len(result.stdout.splitlines())) == (2, 6)
    assert fault in result.stderr
    assert not picture.exists()


@pytest.mark.parametrize("recipe", ["scan-gb", "cca"])
def test_features_without_pictures_go_to_a_report_in_two_commands(
    call: Call, collection: Path, tmp_path: Path, recipe: str
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("pairs.jsonl", "region_features.safetensors"):
        shutil.copy(collection / name, bare)
    quick = QUICK if recipe != "cca" else ()
    assert call("train", recipe, "--data", bare, "--out", tmp_path / "run", *quick).exit_code == 0
    shown = call("evaluate", tmp_path / "run" / "config.yaml", "--out", tmp_path / "out", "--ks", "1")
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.splitlines()[2].startswith(f"{recipe} ")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "pictures above are shown by their names alone: " in page
    assert '<span class="thumb missing">images/4.png</span>' in page
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["images"] == 6


def test_folds_instead_of_splits(call: Call, collection: Path, tmp_path: Path) -> None:
    tested: list[str] = []
    for fold in (1, 2, 3):
        out = tmp_path / str(fold)
        settings = [part if part != "train.epochs=3" else "train.epochs=1" for part in QUICK]
        done = call("train", "scan", "--data", collection, "--fold", f"{fold}/3", "--out", out, *settings)
        assert done.exit_code == 0, done.output
        found = loaded(call("evaluate", out / "config.yaml", "--json", "--ks", "1"))
        assert found["images"] == 10
        config = load_config(out / "config.yaml")
        assert config.data is not None
        assert config.data.as_dict()["fold"] == fold
        tested.append(json.dumps(config.data.as_dict()))
    assert len(set(tested)) == 3


def test_columns_of_other_names_are_named_once(call: Call, collection: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (collection / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    renamed = [{"bild": row["picture"], "worte": row["texts"], "vase": n // 2, **row} for n, row in enumerate(rows)]
    for row in renamed:
        del row["picture"], row["texts"]
    table = tmp_path / "t.jsonl"
    table.write_text("\n".join(json.dumps(row) for row in renamed))
    features = ("--data", table, "--features", collection / "region_features.safetensors")
    columns = ("--set", "train.data.image=bild", "--set", "train.data.text=worte")
    assert call("train", "scan", *features, "--out", tmp_path / "split", *QUICK, *columns).exit_code == 0
    assert loaded(call("evaluate", tmp_path / "split" / "config.yaml", "--json", "--ks", "1"))["texts"] == 12
    of = [part.replace("train.data.", "train.data.of.") for part in columns]
    group = ("--fold", "1/3", "--set", "train.data.of.group=vase")
    assert call("train", "scan", *features, "--out", tmp_path / "fold", *QUICK, *of, *group).exit_code == 0
    asked, config = (load_config(tmp_path / "fold" / name).as_dict() for name in ("training.yaml", "config.yaml"))
    assert "train" not in config
    parts = (config["data"], asked["train"]["data"], asked["train"]["validation"])
    assert {part["of"]["group"] for part in parts} == {"vase"}


def test_keypoints_of_the_file_stand_for_the_sift_filter(call: Call, collection: Path, tmp_path: Path) -> None:
    assert call("train", "scan-sf", "--data", collection, "--out", tmp_path / "run", *QUICK).exit_code == 0
    config = load_config(tmp_path / "run" / "config.yaml")
    assert [step.spec.name for step in config.filters] == []
    assert config.proposer is not None
    assert config.proposer.as_dict()["min_keypoints"] == 2


def test_the_sift_filter_without_keypoints_or_pictures_is_named(
    refused: Refused, call: Call, collection: Path, tmp_path: Path
) -> None:
    given = read_region_features(collection / "region_features.safetensors")
    bare, run, store = tmp_path / "bare", tmp_path / "run", tmp_path / "store"
    bare.mkdir()
    shutil.copy(collection / "pairs.jsonl", bare)
    features = RegionFeatures("made", given.ids, given.offsets, np.array(given.values), given.boxes)
    write_region_features(bare / "region_features.safetensors", features)
    fault = (
        "filters.0.name: 'sift' needs pictures, or a file of region features with array 'keypoints'; not one picture "
        "can be opened. To do without: --set 'filters=[]'\n"
    )
    assert refused("train", "scan-sf", "--data", bare, "--out", run, *QUICK).endswith(fault)
    assert {path.name for path in run.iterdir()} == {"training.yaml"}
    # What the refusal says to do leaves the other filter where it was.
    said = refused("train", "bfan-sf", "--data", bare, "--out", tmp_path / "without", *QUICK)
    instead = said.rpartition("To do without: --set '")[2].rstrip("'\n")
    assert instead.startswith("filters=[{name: bfan_focal, mode: sheng")
    done = call("train", "bfan-sf", "--data", bare, "--out", tmp_path / "without", "--set", instead, *QUICK)
    assert done.exit_code == 0, done.output
    assert [step.spec.name for step in load_config(tmp_path / "without" / "config.yaml").filters] == ["bfan_focal"]
    (bare / "images").mkdir()
    for name in ("0.png", "1.png", "2.png", "3.png"):  # one a split will do: the others are named, and left out
        shutil.copy(collection / "images" / name, bare / "images")
    shown = call("train", "scan-sf", "--data", bare, "--out", run, *QUICK)
    assert shown.exit_code == 0, shown.output
    assert "left out images/5.png: " in shown.stderr
    trained = tmp_path / "trained"
    assert call("train", "scan", "--data", bare, "--out", trained, *QUICK).exit_code == 0
    shutil.rmtree(bare / "images")
    config = (trained / "config.yaml", "--set", "filters=[{name: sift}]")
    assert refused("evaluate", *config).endswith(fault)
    assert refused("index", "build", *config, "--out", store).endswith(fault)
    assert not store.exists()


@pytest.mark.slow
def test_two_processes_under_torchrun(call: Call, collection: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", port]
    command = ["-m", "heritage_align", "train", "scan-gb", "--data", str(collection), "--out", str(tmp_path), *QUICK]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'plugins'}"}
    done = subprocess.run([*launch, *command], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("next: heritage-align evaluate") == 1
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    assert (state["epoch"], state["updates"]) == (3, 18)  # of 18 captions twice an epoch 8, 8 and 2, one a process
    assert all(bool(value.isfinite().all()) for value in state["model"].values())
    assert loaded(call("evaluate", tmp_path / "config.yaml", "--json", "--ks", "1"))["texts"] == 12


# Mistakes: one message each.


def test_data_at_fault(refused: Refused, collection: Path, tmp_path: Path) -> None:
    def train(*arguments: object, data: Path = collection) -> str:
        shown = refused("train", "scan", "--data", data, "--out", tmp_path / "run", *QUICK, *arguments)
        assert not list((tmp_path / "run").glob("*.pt"))
        return shown

    assert "there is no such file or folder" in train(data=tmp_path / "nowhere")
    assert "holds no table of pictures and texts" in train(data=collection / "images")
    assert "--fold: expected I/K with 1 <= I <= K, for example 1/4; got '4/3'" in train("--fold", "4/3")
    assert "--fold: expected I/K" in train("--fold", "x")
    assert "31 folds need 31 artworks, there are 30" in train("--fold", "1/31")
    assert "folds: Input should be greater than or equal to 2" in train("--fold", "1/1")
    assert "none.npz" in train("--features", tmp_path / "none.npz")
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    assert "broken.safetensors" in train("--features", tmp_path / "broken.safetensors")


def test_features_of_other_pictures(refused: Refused, collection: Path, tmp_path: Path) -> None:
    given = read_region_features(collection / "region_features.safetensors")
    names = tuple(f"photo-{number}" for number in range(30))
    other = RegionFeatures("x", names, given.offsets, np.array(given.values), given.boxes)
    write_region_features(tmp_path / "other.safetensors", other)
    arguments = ("--data", collection, "--features", tmp_path / "other.safetensors", "--out", tmp_path / "run")
    shown = refused("train", "scan", *arguments, *QUICK)
    assert "'images/0.png', 'images/1.png', 'images/2.png'" in shown
    assert "ids in the file look like 'photo-0'" in shown


def test_a_table_without_a_part_to_train_on(refused: Refused, collection: Path, tmp_path: Path) -> None:
    lines = (collection / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    (tmp_path / "t.jsonl").write_text("\n".join(line for line in lines if '"test"' in line))
    shown = refused("train", "scan", "--data", tmp_path / "t.jsonl", "--out", tmp_path / "run", *QUICK)
    assert "has splits test, and no train" in shown


def test_configs_that_train_nothing(refused: Refused, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "run")
    assert "train: is missing; name a trainer" in refused("train", "laclip", *out)
    assert "Did you mean 'alignment'?" in refused("train", "scan", "--set", "train.name=alignmnt", *out)
    assert "train.margn: unknown key. Did you mean 'margin'?" in refused(
        "train", "scan", "--set", "train.margn=1", *out
    )
    (tmp_path / "file").touch()
    assert "is a file" in refused("train", "scan", "--out", tmp_path / "file" / "run")


def test_a_damaged_checkpoint(refused: Refused, run: Path, collection: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last.pt").write_bytes((run / "last.pt").read_bytes()[:500])
    shown = refused("train", "scan-gb", "--data", collection, "--out", tmp_path / "run", *QUICK)
    assert "last.pt: is damaged" in shown
    model = tmp_path / "model.safetensors"
    model.write_bytes(b"nothing")
    shown = refused("evaluate", run / "config.yaml", "--set", f"encoder.checkpoint={model}")
    assert "model.safetensors: cannot be read as an alignment model" in shown
    shown = refused("evaluate", run / "config.yaml", "--set", "encoder.checkpoint=none.safetensors")
    assert "encoder.checkpoint: there is no file 'none.safetensors'" in shown


def test_no_rows_to_test_on_is_said(call: Call, collection: Path, tmp_path: Path) -> None:
    """What was learned from is measured then, and a model that remembers its pairs finds all of them."""
    lines = (collection / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [{key: value for key, value in json.loads(line).items() if key != "split"} for line in lines]
    table = tmp_path / "all.jsonl"
    table.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    features = ("--features", str(collection / "region_features.safetensors"), "--set", "runtime.device=cpu")
    said = "note: there are no rows to test on, so evaluate measures what was learned from"
    whole = call("train", "cca", "--data", str(table), *features, "--out", str(tmp_path / "whole"))
    assert said in whole.stderr
    fold = call("train", "cca", "--data", str(table), *features, "--fold", "1/3", "--out", str(tmp_path / "fold"))
    assert said not in fold.stderr
    split = call("train", "cca", "--data", str(collection), "--set", "runtime.device=cpu", "--out", str(tmp_path / "s"))
    assert said not in split.stderr
