"""Whatever a config file holds, what comes out is a Config or a ConfigError."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from heritage_align.config import Config, load_config
from heritage_align.document import apply_overrides, get_at, parse_yaml
from heritage_align.errors import ConfigError
from heritage_align.plugins import default_registry

_REGISTRY = default_registry()
_WORDS = [
    *("version", "name", "encoder", "text_encoder", "proposer", "filters", "fragmenter", "similarity", "index"),
    *("data", "store", "search", "runtime", "dtype", "count", "temperature", "terms", "weight", "direction", "seed"),
    *(spec.name for spec in _REGISTRY.components()),
]
_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(_WORDS),
    st.text(max_size=8),
    st.dates(),
    st.binary(max_size=4),
)
_KEYS = st.one_of(st.sampled_from(_WORDS), st.text(max_size=4), st.integers(0, 3), st.booleans())
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=12,
)
_BASE: dict[str, Any] = {
    "version": 1,
    "name": "x",
    "encoder": {"name": "cn_clip", "model": "ViT-B-16"},
    "similarity": {"name": "global"},
}


def _either(text: str) -> Config | None:
    fault: ConfigError | None = None
    try:
        return load_config(parse_yaml(text, "fuzz"), registry=_REGISTRY, label="fuzz")
    except ConfigError as error:
        fault = error
    assert str(fault).startswith("fuzz: ")
    assert len(str(fault)) < 20_000
    return None


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(_WORDS[:14]), _VALUES, max_size=6))
def test_documents_of_any_shape(changes: dict[str, Any]) -> None:
    found = _either(yaml.safe_dump({**_BASE, **changes}, allow_unicode=True))
    if found is not None:
        assert load_config(parse_yaml(found.to_yaml(), "copy"), registry=_REGISTRY) == found


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([spec for spec in _REGISTRY.components() if spec.kind in ("encoder", "proposer", "similarity")]),
    st.data(),
)
def test_settings_of_any_type(spec: Any, data: st.DataObject) -> None:
    keys = list(_REGISTRY.config_model(spec).model_fields)
    values = data.draw(st.dictionaries(st.sampled_from(keys), _VALUES, max_size=3)) if keys else {}
    _either(yaml.safe_dump({**_BASE, spec.kind: {"name": spec.name, **values}}, allow_unicode=True))


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab0:-[]{}&*!<|>\"'# \n\t,?%@~.\\ud8", max_size=40))
def test_text_of_any_kind(text: str) -> None:
    _either(text)


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet="abn.0:[]{}!&* -", max_size=20), st.text(alphabet="a0-:[]{}!&*'", max_size=12))
def test_overrides_of_any_kind(place: str, value: str) -> None:
    document = {**_BASE, "filters": [{"name": "sift"}]}
    with suppress(ConfigError):
        apply_overrides(document, [f"{place}={value}"], "fuzz")
        assert get_at(document, place) == yaml.safe_load(value)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("created: 2024-99-99", "is not YAML: month must be in 1..12"),
        ("x: !!bool maybe", "is not YAML"),
        ("x: !!timestamp never", "is not YAML"),
        ("[" * 3000, "nested too deeply"),
        ("a: &a [*a]", "a.0: contains itself"),
        ("x: 0x" + "f" * 5000, "x: an integer of more than 64 bits"),
        ("when: 2024-01-01", "when: is a date to YAML"),
        ("on: 1", "document: key True is no text"),
        ('x: "\\ud800"', "x: '\\ud800' holds a lone surrogate"),
        ("name: ../up", "name: names files"),
        ("name: '  '", "name: names files"),
    ],
)
def test_what_yaml_can_say_and_a_config_cannot(text: str, fault: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(parse_yaml(text, "odd"), registry=_REGISTRY)
    assert fault in str(raised.value)


def test_aliases_of_aliases_do_not_print_without_end() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    with pytest.raises(ConfigError) as raised:
        load_config(parse_yaml("\n".join([*lines, "encoder: *a11", "version: *a11"]), "bomb"), registry=_REGISTRY)
    assert len(str(raised.value)) < 5_000


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    file = tmp_path / "bin.yaml"
    file.write_bytes(b"\xff\xfe\x00bin")
    with pytest.raises(ConfigError, match=r"bin\.yaml.*\n.*it is not UTF-8"):
        load_config(file)
