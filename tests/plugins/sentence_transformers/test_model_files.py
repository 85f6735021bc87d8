"""``models check`` of the library's models and of rerankers: what it calls whole is what loads."""

from __future__ import annotations

import json
import pickle
import shutil

import pytest
import yaml
from click.testing import CliRunner
from heritage_align_plugins.sentence_transformers.config import WholeConfig
from safetensors.torch import load_file, save_file

from heritage_align import load_recipe
from heritage_align.cli import cli
from heritage_align.errors import CheckpointError, ConfigError
from heritage_align.testing import Case

COMPONENTS = {
    "colqwen": ("encoder", "multi_vector"),
    "late": ("encoder", "multi_vector"),
    "embedding": ("encoder", "sentence_transformers"),
    "reranker": ("reranker", "cross_encoder"),
    "qwen3": ("reranker", "yes_no"),
}
PLACES = {"encoder": "encoder", "reranker": "search.last"}
NAME = "silk/crane-tiny"
COMMIT = "89abcdef0123456789abcdef0123456789abcdef"


def check(*arguments):
    return CliRunner().invoke(cli, ["models", "check", *map(str, arguments)])


def reports(*arguments):
    result = check(*arguments, "--json")
    assert result.stdout, result.stderr
    return json.loads(result.stdout)


def refused(*arguments):
    result = check(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    return result.stderr


def config_of(kind, name, folder, path):
    """Write a configuration with the component: `models check` of it asks this component alone."""
    encoder = {"name": "cn_clip", "model": "motif-small"}
    document = {"version": 1, "name": "x", "encoder": encoder, "similarity": {"name": "global"}}
    named = {"name": name, "model": str(folder)}
    document |= {"encoder": named} if kind == "encoder" else {"search": {"last": named}}
    if name == "multi_vector":
        document |= {
            "proposer": {"name": name},
            "fragmenter": {"name": name},
            "similarity": {"name": "late_interaction"},
        }
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def loads(kind, name, folder):
    try:
        Case(kind, name, {"model": str(folder)}).build()
    except CheckpointError:
        return False
    return True


@pytest.mark.parametrize("model", COMPONENTS)
def test_a_folder_is_known_by_its_files(models, model):
    kind, name = COMPONENTS[model]
    (found,) = reports(models / model)
    assert (found["place"], found["component"]) == (PLACES[kind], f"{kind}.{name}")
    assert found["whole"]


@pytest.mark.parametrize("model", COMPONENTS)
def test_the_files_that_are_told_are_enough(models, model, tmp_path):
    (found,) = reports(models / model)
    for file in found["files"]:
        (tmp_path / file["name"]).parent.mkdir(exist_ok=True)
        shutil.copy(models / model / file["name"], tmp_path / file["name"])
    assert loads(*COMPONENTS[model], tmp_path)


@pytest.mark.parametrize("model", COMPONENTS)
def test_what_is_called_whole_is_what_loads(models, model, tmp_path):
    """Each file of the folder in turn is not there."""
    for file in sorted(path for path in (models / model).rglob("*") if path.is_file()):
        name = file.relative_to(models / model)
        folder = tmp_path / "model"
        shutil.copytree(models / model, folder)
        (folder / name).unlink()
        config = config_of(*COMPONENTS[model], folder, tmp_path / "c.yaml")
        assert (check(config).exit_code == 0) == loads(*COMPONENTS[model], folder), name
        shutil.rmtree(folder)


def in_folders(source, folder):
    """Move a saved model's first module into a folder of its own, as the library's older versions saved it."""
    shutil.copytree(
        source, folder / "0_Transformer", ignore=shutil.ignore_patterns("[0-9]_*", "modules.json", "README.md")
    )
    for file in source.iterdir():
        if file.is_dir():
            shutil.copytree(file, folder / file.name)
    modules = json.loads((source / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))
    shutil.move(folder / "0_Transformer" / "config_sentence_transformers.json", folder)
    return folder


def test_modules_in_folders(models, tmp_path):
    folder = in_folders(models / "late", tmp_path / "late")
    (found,) = reports(folder)
    names = [file["name"] for file in found["files"]]
    assert {"0_Transformer/model.safetensors", "0_Transformer/tokenizer.json", "1_Dense/model.safetensors"} <= {*names}
    assert found["whole"]
    assert loads("encoder", "multi_vector", folder)
    # A tokenizer elsewhere is not this module's: the library would make one that knows no word.
    shutil.move(folder / "0_Transformer" / "tokenizer.json", folder / "tokenizer.json")
    (found,) = reports(folder)
    assert [file["part"] for file in found["files"] if file["state"] == "missing"] == ["tokenizer"]
    assert not loads("encoder", "multi_vector", folder)


def test_parts_of_weights_lie_beside_their_index(models, tmp_path):
    folder = in_folders(models / "embedding", tmp_path / "embedding")
    place = folder / "0_Transformer"
    tensors = load_file(place / "model.safetensors")
    (place / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"model-1-of-2.safetensors": names[::2], "model-2-of-2.safetensors": names[1::2]}
    for part, held in parts.items():
        save_file({name: tensors[name] for name in held}, place / part, metadata={"format": "pt"})
    index = place / "model.safetensors.index.json"
    index.write_text(
        json.dumps({"metadata": {}, "weight_map": {n: part for part, held in parts.items() for n in held}})
    )
    (found,) = reports(folder)
    weights = [file["name"] for file in found["files"] if file["part"] == "weights"]
    assert weights == [f"0_Transformer/{name}" for name in (index.name, *parts)]
    assert found["whole"]
    assert loads("encoder", "sentence_transformers", folder)
    (tmp_path / "secret.safetensors").write_bytes(b"x")
    index.write_text(json.dumps({"weight_map": {"a": "../../secret.safetensors", "b": "/etc/hostname"}}))
    (found,) = reports(folder)
    broken = [file for file in found["files"] if file["state"] == "broken"]
    assert [(file["detail"], file["sha256"]) for file in broken] == [("is outside of the model's folder", None)] * 2


def test_models_of_the_cache_are_told_and_pinned(models, hub_cache, tmp_path):
    folder = tmp_path / "with-card"
    shutil.copytree(models / "reranker", folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    hub_cache(NAME, folder, COMMIT)
    hub_cache("silk/whole", models / "embedding", COMMIT)
    (found,) = reports(NAME)
    assert (found["component"], found["license"]) == ("reranker.cross_encoder", "apache-2.0")
    assert (found["revision"], found["whole"], found["get"]) == (COMMIT, True, None)
    names = ["encoder.model=silk/whole", f"search.last.model={NAME}"]
    found = reports("cross-encoder-last", *(word for name in names for word in ("--set", name)))
    assert [one["place"] for one in found] == ["encoder", "search.last"]
    assert [(one["revision"], one["whole"]) for one in found] == [(COMMIT, True)] * 2
    written = yaml.safe_load(load_recipe("cross-encoder-last", names).to_yaml())
    assert written["encoder"]["revision"] == written["search"]["last"]["revision"] == COMMIT
    said = refused("cross-encoder-last", "--set", "encoder.model=silk/whole", "--set", "search.last.model=silk/whole")
    assert "says SentenceTransformer, not CrossEncoder; take encoder {name: sentence_transformers}" in said


def test_what_the_cache_lacks_is_named_with_the_command(models, hub_cache):
    snapshot = hub_cache(NAME, models / "late", COMMIT)
    (snapshot / "1_Dense" / "model.safetensors").unlink()
    result = check(NAME)
    assert result.exit_code == 2
    assert "--  weights    1_Dense/model.safetensors or 1_Dense/pytorch_model.bin  is missing" in result.stdout
    assert f"get it    hf download {NAME}\n" in result.stdout


@pytest.mark.usefixtures("hub_cache")
def test_what_is_not_here_is_told_all_the_same():
    (found,) = reports("qwen3-vl-global")
    assert [(file["part"], file["state"]) for file in found["files"]] == [
        ("settings", "missing"),
        ("weights", "missing"),
        ("tokenizer", "missing"),
    ]
    assert found["get"] == "hf download Qwen/Qwen3-VL-Embedding-2B"


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return (open, (str(self.file), "w"))


def test_nothing_is_run(models, tmp_path):
    folder = tmp_path / "late"
    shutil.copytree(models / "late", folder)
    (folder / "1_Dense" / "model.safetensors").unlink()
    (folder / "1_Dense" / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(tmp_path / "unpickled")))
    (found,) = reports(folder)
    assert found["whole"]
    (folder / "modeling_own.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')\nclass Own:\n    pass\n")
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["type"] = "modeling_own.Own"
    (folder / "modules.json").write_text(json.dumps(modules))
    assert "names modeling_own.Own, which is code of the model's own, and no such code is run" in refused(folder)
    assert not loads("encoder", "multi_vector", folder)
    assert not (tmp_path / "unpickled").exists()
    assert not (tmp_path / "imported").exists()


OWN = "sentence_transformers.base.modules"


@pytest.mark.parametrize(
    ("modules", "says"),
    [
        ("{", "cannot read the model's modules"),
        ("[" * 100_000, "cannot read the model's modules"),
        ("{}", "expected a list of modules"),
        ("[]", "expected a list of modules"),
        ("[3]", "expected a list of modules"),
        ('[{"type": 3, "path": ""}]', "expected type and path"),
        (f'[{{"type": "{OWN}.dense.Dense", "path": "../other"}}]', "'../other' is no folder of the model"),
        (f'[{{"type": "{OWN}.dense.Dense", "path": "/etc"}}]', "'/etc' is no folder of the model"),
        (f'[{{"type": "{OWN}.router.Router", "path": "router"}}]', "has no types"),
    ],
)
def test_modules_that_are_none(modules, says, tmp_path):
    (tmp_path / "modules.json").write_text(modules)
    (tmp_path / "router").mkdir()
    (tmp_path / "router" / "router_config.json").write_text("{}")
    assert says in refused(tmp_path)


def test_a_router_s_modules_are_told(tmp_path):
    (tmp_path / "modules.json").write_text(json.dumps([{"type": f"{OWN}.router.Router", "path": ""}]))
    types = {
        "query_0_StaticEmbedding": "sentence_transformers.sentence_transformer.modules.static_embedding.StaticEmbedding"
    }
    types["document_0_Transformer"] = f"{OWN}.transformer.Transformer"
    (tmp_path / "router_config.json").write_text(json.dumps({"types": types}))
    (found,) = reports(tmp_path)
    missing = {file["name"] for file in found["files"] if file["state"] == "missing"}
    query, document = types
    assert {f"{query}/tokenizer.json", f"{document}/config.json"} <= missing
    types["again"] = f"{OWN}.router.Router"
    (tmp_path / "again").symlink_to(tmp_path)
    (tmp_path / "router_config.json").write_text(json.dumps({"types": types}))
    assert "is no folder of the model" in refused(tmp_path)


def test_an_adapter_needs_the_model_that_it_was_trained_on(models, hub_cache, tmp_path):
    folder = tmp_path / "adapted"
    shutil.copytree(models / "embedding", folder)
    for name in ("config.json", "model.safetensors"):
        (folder / name).unlink()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": NAME, "peft_type": "LORA"}))
    save_file(load_file(models / "late" / "1_Dense" / "model.safetensors"), folder / "adapter_model.safetensors")
    own, base = reports(folder)
    assert own["whole"]
    assert (base["model"], base["get"]) == (NAME, f"hf download {NAME}")
    hub_cache(NAME, models / "qwen3", COMMIT)
    assert [one["whole"] for one in reports(folder)] == [True, True]
    for place, whole in ((models / "qwen3", True), (tmp_path / "gone", False)):  # as whoever trained it named it
        (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(place)}))
        own, base = reports(folder)
        assert (own["whole"], base["model"], base["whole"]) == (True, str(place), whole)
    assert base["get"].endswith(f"--local-dir {tmp_path / 'gone'}")
    (folder / "adapter_config.json").write_text("{}")
    assert "has no base_model_name_or_path" in refused(folder)


def test_architectures_that_are_no_list_are_no_traceback(models, tmp_path):
    folder = tmp_path / "colqwen"
    shutil.copytree(models / "colqwen", folder)
    settings = json.loads((folder / "config.json").read_text())
    for nonsense in (3, "ColQwen2ForRetrieval", [3], None):
        (folder / "config.json").write_text(json.dumps({**settings, "architectures": nonsense}))
        with pytest.raises(CheckpointError, match=r"there is no modules.json"):
            WholeConfig(model=str(folder)).facts()


def test_settings_of_a_module_that_do_not_fit_are_a_line(models, tmp_path):
    folder = tmp_path / "embedding"
    shutil.copytree(models / "embedding", folder)
    (folder / "1_Pooling" / "config.json").write_text('{"embedding_dimension": 32, "nonsense": 1}')
    with pytest.raises(CheckpointError, match="SentenceTransformer cannot load it"):
        Case("encoder", "sentence_transformers", {"model": str(folder)}).build()


def test_a_tokenizer_without_words_is_refused(models, tmp_path):
    for model, (kind, name) in COMPONENTS.items():
        folder = tmp_path / model
        shutil.copytree(models / model, folder)
        tokenizer = json.loads((folder / "tokenizer.json").read_text())
        marks = {token["content"] for token in tokenizer["added_tokens"]}
        vocabulary = {word: n for word, n in tokenizer["model"]["vocab"].items() if word in marks}
        tokenizer["model"] |= {"vocab": vocabulary, "merges": []}
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
        with pytest.raises((CheckpointError, ConfigError), match="its tokenizer knows no word"):
            Case(kind, name, {"model": str(folder)}).build()
