"""Configurations: strict, every fault at once with its place, and the resolved copy loads to the same."""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, Field

from heritage_align.component import ComponentConfig
from heritage_align.config import CONFIG_VERSION, Config, load_config, resolve_component
from heritage_align.document import get_at, parse_yaml, set_at
from heritage_align.errors import ConfigError
from heritage_align.hookspecs import ComponentSpec, Kind, hookimpl
from heritage_align.memory import amount_in_bytes, physical_memory
from heritage_align.plugins import PluginInfo, Registry


class Limits(BaseModel, extra="forbid", frozen=True):
    """A group of settings inside another."""

    smallest: int = 1
    largest: int = 100


class Band(BaseModel, extra="forbid", frozen=True):
    """One of a list of groups."""

    low: float = 0.0


class BoxesConfig(ComponentConfig):
    """Settings with a group, an optional group and a list of groups."""

    count: int = Field(10, ge=1)
    limits: Limits = Limits()
    margin: Limits | None = None
    bands: tuple[Band, ...] = ()
    model: Path | None = None


class PlainConfig(ComponentConfig):
    """One number."""

    temperature: float = 9.0


class SumConfig(ComponentConfig):
    """Names other similarities."""

    terms: list[dict[str, Any]]

    def nested(self) -> dict[str, tuple[Kind, dict[str, Any]]]:
        return {f"terms.{i}": ("similarity", term) for i, term in enumerate(self.terms)}


class _Plugin:
    @staticmethod
    @hookimpl
    def heritage_align_components() -> list[ComponentSpec]:
        def spec(kind: Kind, name: str, model: str) -> ComponentSpec:
            role = "default" if kind in ("index", "executor") else ""
            return ComponentSpec(kind, name, f"{__name__}:{model}", f"config_models:{model}", role=role)

        return [
            spec("encoder", "eye", "PlainConfig"),
            spec("proposer", "boxes", "BoxesConfig"),
            spec("filter", "sieve", "PlainConfig"),
            spec("similarity", "cosine", "PlainConfig"),
            spec("similarity", "sum", "SumConfig"),
            spec("index", "exact", "PlainConfig"),
            spec("executor", "here", "PlainConfig"),
            spec("dataset", "table", "PlainConfig"),
        ]


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    module = ModuleType("config_models")
    for model in (PlainConfig, BoxesConfig, SumConfig):
        setattr(module, model.__name__, model)
    monkeypatch.setitem(sys.modules, "config_models", module)
    monkeypatch.setenv("HERITAGE_ALIGN_STRICT", "1")
    made = Registry()
    made.add(PluginInfo("here", __name__, "tests"), _Plugin())
    return made


def document(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "version": 1,
        "name": "丝绸",
        "encoder": {"name": "eye"},
        "proposer": {"name": "boxes", "count": 3},
        "filters": [{"name": "sieve"}, {"name": "sieve", "temperature": 2}],
        "similarity": {"name": "cosine"},
    }
    return {**base, **changes}


def problems(source: Any, registry: Registry, overrides: tuple[str, ...] = ()) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load_config(source, overrides, registry)
    return caught.value.problems


def test_defaults_are_filled_in_everywhere(registry: Registry) -> None:
    resolved = load_config(document(), registry=registry).as_dict()
    assert resolved["version"] == CONFIG_VERSION
    assert resolved["proposer"] == {
        "name": "boxes",
        "count": 3,
        "limits": {"smallest": 1, "largest": 100},
        "margin": None,
        "bands": [],
        "model": None,
    }
    assert resolved["filters"] == [
        {"name": "sieve", "temperature": 9.0},
        {"name": "sieve", "temperature": 2.0},
    ]
    assert resolved["index"] == {"name": "exact", "temperature": 9.0}
    assert set(resolved["runtime"]) == {
        *("device", "precision", "batch_size", "workers", "preprocess", "host_memory", "device_memory", "seed")
    }
    assert "data" not in resolved


def test_defaults_are_filled_in_inside_nested_components(registry: Registry) -> None:
    raw = {"name": "sum", "terms": [{"name": "cosine"}, {"name": "sum", "terms": [{"name": "cosine"}]}]}
    config = load_config(document(similarity=raw), registry=registry)
    assert config.similarity.as_dict()["terms"] == [
        {"name": "cosine", "temperature": 9.0},
        {"name": "sum", "terms": [{"name": "cosine", "temperature": 9.0}]},
    ]
    assert config.similarity.nested["terms.1"].nested["terms.0"].settings == PlainConfig()


def test_the_resolved_copy_loads_to_the_same_configuration(registry: Registry, tmp_path: Path) -> None:
    raw = {"name": "sum", "terms": [{"name": "cosine", "temperature": 0.5}]}
    changes = {
        "similarity": raw,
        "proposer": {"name": "boxes", "model": "a/b.pt", "bands": [{"low": 0.1}]},
        "data": {"name": "table"},
        "runtime": {"seed": 7},
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(document(**changes), allow_unicode=True), encoding="utf-8")
    config = load_config(path, registry=registry)
    assert load_config(config.as_dict(), registry=registry) == config
    copy = tmp_path / "resolved.yaml"
    copy.write_text(config.to_yaml(), encoding="utf-8")
    assert "丝绸" in config.to_yaml()
    again = load_config(copy, registry=registry)
    assert again == config
    assert again.digest() == config.digest()
    assert load_config(path, ["runtime.seed=8"], registry).digest() != config.digest()


def test_every_fault_is_reported_at_once_with_its_place(registry: Registry) -> None:
    faulty = document(
        encoder={"name": "eyes"},
        proposer={"name": "boxes", "cuont": 3, "limits": {"smallset": 2, "largest": "many"}},
        filters=[{"name": "sieve"}, {"temperature": 1}, {"name": "sieve", "temperature": "warm"}, "sieve"],
        runtime={"seed": -1, "sed": 3},
        nmae="x",
    )
    found = problems(faulty, registry)
    assert sorted(p.split(":")[0] for p in found) == [
        "encoder.name",
        "filters.1",
        "filters.2.temperature",
        "filters.3",
        "nmae",
        "proposer.cuont",
        "proposer.limits.largest",
        "proposer.limits.smallset",
        "runtime.sed",
        "runtime.seed",
    ], found
    text = "\n".join(found)
    assert "encoder.name: unknown encoder 'eyes'. Did you mean 'eye'? Known: eye." in text
    assert "proposer.cuont: unknown key. Did you mean 'count'?" in text
    assert "proposer.limits.smallset: unknown key. Did you mean 'smallest'?" in text
    assert "runtime.sed: unknown key. Did you mean 'seed'?" in text
    assert "nmae: unknown key. Did you mean 'name'?" in text
    assert "'warm'" in text


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"limits": {"smallset": 1}}, "proposer.limits.smallset: unknown key. Did you mean 'smallest'?"),
        ({"margin": {"smallset": 1}}, "proposer.margin.smallset: unknown key. Did you mean 'smallest'?"),
        ({"bands": [{}, {"lwo": 1}]}, "proposer.bands.1.lwo: unknown key. Did you mean 'low'?"),
    ],
)
def test_unknown_keys_are_found_at_any_depth(registry: Registry, settings: dict[str, Any], expected: str) -> None:
    assert problems(document(proposer={"name": "boxes", **settings}), registry) == (expected,)


def test_faults_of_nested_components_have_their_place(registry: Registry) -> None:
    raw = {"name": "sum", "terms": [{"name": "cosine"}, {"name": "cosin"}, {"name": "cosine", "temp": 1}, {}]}
    found = problems(document(similarity=raw), registry)
    assert [p.split(":")[0] for p in found] == [
        "similarity.terms.1.name",
        "similarity.terms.2.temp",
        "similarity.terms.3",
    ]


def test_missing_parts_are_named(registry: Registry) -> None:
    assert set(problems({"version": 1}, registry)) == {
        "name: is missing",
        "encoder: is missing",
        "similarity: is missing",
    }
    assert "version: is missing" in problems({}, registry)


def test_without_an_index_of_role_default_one_must_be_named() -> None:
    faults = problems(document(), Registry())
    assert any(fault.startswith("index: is missing; no plugin that is loaded offers") for fault in faults)


@pytest.mark.parametrize("version", [0, 2, "1.0", None])
def test_other_versions_are_refused(registry: Registry, version: Any) -> None:
    (problem,) = problems(document(version=version), registry)
    assert problem.startswith("version: ")
    assert repr(version) in problem


@pytest.mark.parametrize(
    "changes",
    [
        {"encoder": "eye"},
        {"encoder": ["eye"]},
        {"encoder": None},
        {"filters": {"name": "sieve"}},
        {"runtime": 3},
        {"name": ""},
    ],
)
def test_wrong_shapes_are_one_clear_fault(registry: Registry, changes: dict[str, Any]) -> None:
    (problem,) = problems(document(**changes), registry)
    assert problem.startswith(next(iter(changes)) + ": ")


@pytest.mark.parametrize("name", ["os:system", "heritage_align.config:Config", "../x", "eye.eye", "os.system"])
def test_import_paths_are_names_like_any_other_and_unknown(registry: Registry, name: str) -> None:
    (problem,) = problems(document(encoder={"name": name}), registry)
    assert problem.startswith(f"encoder.name: unknown encoder {name!r}.")


@pytest.mark.parametrize(
    "text",
    [
        "name: a\nname: b\n",
        "encoder:\n  name: eye\n  temperature: 1\n  temperature: 2\n",
        "filters:\n  - {name: sieve, name: sieve}\n",
        "base: &b {x: 1}\nover:\n  <<: *b\n  y: 1\n  y: 2\n",
    ],
)
def test_a_key_given_twice_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(ConfigError, match=r"file: 1 problem\n.*key '\w+' twice.*line \d"):
        parse_yaml(text, "file")


def test_a_merge_may_override_a_key() -> None:
    text = """
    base: &base {name: eye, temperature: 1}
    deep:
      er: &changed {<<: *base, temperature: 2}
    over: {<<: *changed, temperature: 3}
    """
    assert parse_yaml(dedent(text), "file") == {
        "base": {"name": "eye", "temperature": 1},
        "deep": {"er": {"name": "eye", "temperature": 2}},
        "over": {"name": "eye", "temperature": 3},
    }


@pytest.mark.parametrize(
    "text",
    ["", "- 1\n", "a: [", "1: 2\n", "a: !!python/object/apply:os.getcwd []\n", "? [a]\n: 1\n", "a: \x00\n"],
)
def test_what_is_not_a_plain_mapping_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^my.yaml: 1 problem"):
        parse_yaml(text, "my.yaml")


def test_unreadable_files_are_named(tmp_path: Path, registry: Registry) -> None:
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("name: caf\xe9".encode("latin-1"))
    for path in (tmp_path / "absent.yaml", tmp_path, latin):
        with pytest.raises(ConfigError, match=r"cannot be read") as caught:
            load_config(path, registry=registry)
        assert str(path) in str(caught.value)


def test_overrides_change_values_before_validation(registry: Registry) -> None:
    raw = document()
    overrides = (
        "similarity.temperature=1e-3",
        "filters.1.temperature=4",
        "filters.0={name: sieve, temperature: 5}",
        "proposer.limits.largest=7",
        "data={name: table}",
        "search.top_k=3",
        "name=",
        "name=a=b",
    )
    resolved = load_config(raw, overrides, registry).as_dict()
    assert resolved["similarity"]["temperature"] == 0.001
    assert [f["temperature"] for f in resolved["filters"]] == [5.0, 4.0]
    assert resolved["proposer"]["limits"] == {"smallest": 1, "largest": 7}
    assert resolved["data"]["name"] == "table"
    assert resolved["search"]["top_k"] == 3
    assert resolved["name"] == "a=b"
    assert raw == document(), "the caller's document is left alone"


def test_overrides_that_do_not_fit_are_reported_together(registry: Registry) -> None:
    overrides = (
        "temperature",
        "=3",
        "filters.2.temperature=1",
        "filters.x=1",
        "name.a=1",
        "a.=1",
        "name=[",
        "x={a: 1, a: 2}",
    )
    found = problems(document(), registry, overrides)
    assert [p.split("'")[1] for p in found] == list(overrides)
    (unknown,) = problems(document(), registry, ("proposer.cuont=1",))
    assert unknown == "proposer.cuont: unknown key. Did you mean 'count'?"


def test_the_message_counts_and_names_the_source(tmp_path: Path, registry: Registry) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("version: 1\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path, registry=registry)
    assert str(caught.value).splitlines()[0] == f"{path}: 3 problems"
    with pytest.raises(ConfigError, match=r"^recipe x: 1 problem\n"):
        load_config(document(name=""), registry=registry, label="recipe x")


def test_one_component_resolves_on_its_own(registry: Registry) -> None:
    component = resolve_component("proposer", {"name": "boxes", "count": 4}, registry)
    assert component.settings == BoxesConfig(count=4)
    with pytest.raises(ConfigError, match=r"proposer.count: "):
        resolve_component("proposer", {"name": "boxes", "count": 0}, registry)


def test_settings_are_frozen(registry: Registry) -> None:
    config: Config = load_config(document(), registry=registry)
    with pytest.raises(ValueError, match=r"frozen"):
        config.similarity.settings.temperature = 3  # type: ignore[attr-defined]


def test_places_in_a_document() -> None:
    tree = {"a": [{"b": 1}]}
    set_at(tree, "a.0.b", 2)
    assert get_at(tree, "a.0.b") == 2
    for place in ("a.1", "a.0.c", "b", "a.b"):
        with pytest.raises(KeyError):
            get_at(tree, place)


@pytest.mark.parametrize("value", ["0", "0.0", "0.25", "1", "8GiB", "8 gib", "512MB", "1.5T", "0B"])
def test_memory_is_a_share_or_a_size(value: str) -> None:
    document = {"version": 1, "name": "m", "encoder": {"name": "cn_clip"}, "similarity": {"name": "global"}}
    config = load_config(document, [f"runtime.device_memory={value}", f"runtime.host_memory={value}"])
    assert load_config(config.as_dict()) == config


@pytest.mark.parametrize("value", ["2", "-1", "-1GiB", ".nan", "true", "''", "8 GiB of it", "GiB", "1e3GiB", "[1]"])
def test_memory_that_is_neither_is_named(value: str) -> None:
    document = {"version": 1, "name": "m", "encoder": {"name": "cn_clip"}, "similarity": {"name": "global"}}
    with pytest.raises(ConfigError, match=r"runtime\.host_memory: "):
        load_config(document, [f"runtime.host_memory={value}"])


def test_amounts_in_bytes() -> None:
    sizes = {
        "8GiB": 8 * 2**30,
        "8 gib": 8 * 2**30,
        "512MB": 512 * 10**6,
        "1.5T": 1500 * 10**9,
        "7b": 7,
        0.25: 25,
        0.0: 0,
    }
    assert {amount: amount_in_bytes(amount, 100) for amount in sizes} == sizes
    assert physical_memory() > 2**28


def test_merges_without_end_are_refused() -> None:
    keys = ", ".join(f"k{number}: 1" for number in range(3000))
    text = f"a: &all {{{keys}}}\n" + "".join(f"b{number}: {{<<: *all}}\n" for number in range(3500))
    with pytest.raises(ConfigError, match=r"more than 20000 keys merged \(<<\)"):
        parse_yaml(text, "config")
    assert len(parse_yaml(text[: text.index("b3:")], "config")["b2"]) == 3000
