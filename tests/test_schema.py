"""The JSON schema accepts every recipe and refuses what the loader refuses."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import jsonschema
import pytest

from heritage_align.config import load_config
from heritage_align.document import parse_yaml
from heritage_align.errors import ConfigError, PluginError
from heritage_align.hookspecs import ComponentSpec, hookimpl
from heritage_align.plugins import PluginInfo, Registry, default_registry
from heritage_align.recipes import load_recipe, recipe_names, recipe_text
from heritage_align.schema import component_schema, config_schema


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = config_schema(default_registry())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_are_valid(validator: jsonschema.Draft202012Validator, name: str) -> None:
    validator.validate(parse_yaml(recipe_text(name), name))
    validator.validate(load_recipe(name).as_dict())


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"nmae": "x"},
        {"encoder": {"name": "nobody"}},
        {"encoder": None},
        {"similarity": {"name": "scan", "temprature": 9}},
        {"similarity": {"name": "scan", "temperature": "warm"}},
        {"similarity": {"name": "scan", "direction": "up"}},
        {"similarity": {"temperature": 9}},
        {"filters": {"name": "sift"}},
        {"filters": [{"name": "scan"}]},
        {"runtime": {"batch_size": 0}},
        {"runtime": {"sed": 1}},
        {"index": None},
    ],
)
def test_what_the_loader_refuses_the_schema_refuses(
    validator: jsonschema.Draft202012Validator, changes: dict[str, Any]
) -> None:
    document = {**parse_yaml(recipe_text("scan"), "scan"), **changes}
    assert list(validator.iter_errors(document)), "the schema takes it"
    with pytest.raises(ConfigError):
        load_config(document)


@pytest.mark.parametrize("slot", ["proposer", "fragmenter", "text_encoder", "data"])
def test_empty_slots_may_be_null(validator: jsonschema.Draft202012Validator, slot: str) -> None:
    document = {**parse_yaml(recipe_text("global"), "global"), slot: None}
    validator.validate(document)
    load_config(document)


def test_a_component_has_a_schema_of_its_own() -> None:
    schema = component_schema("similarity", "scan")
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate({"name": "scan", "temperature": 4}, schema)
    with pytest.raises(jsonschema.ValidationError, match=r"'scan' was expected"):
        jsonschema.validate({"name": "global"}, schema)
    assert "inverse temperature" in schema["properties"]["temperature"]["description"]


def test_every_component_has_a_valid_schema() -> None:
    registry = default_registry()
    for spec in registry.components():
        schema = component_schema(spec.kind, spec.name)
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["properties"]["name"] == {"const": spec.name}
        assert schema["additionalProperties"] is False


def test_unknown_components_are_named() -> None:
    with pytest.raises(PluginError, match=r"Did you mean 'scan'"):
        component_schema("similarity", "scna")
    with pytest.raises(PluginError, match=r"unknown kind 'score'"):
        component_schema("score", "scan")


def test_a_component_whose_settings_do_not_import_is_left_out() -> None:
    class Plugin:
        @staticmethod
        @hookimpl
        def heritage_align_components() -> list[ComponentSpec]:
            return [
                ComponentSpec("filter", "lost", "nowhere:X", "nowhere:Y"),
                ComponentSpec("filter", "there", "nowhere:X", "heritage_align.component:ComponentConfig"),
            ]

    registry = Registry()
    registry.add(PluginInfo("half", "half", "tests"), Plugin())
    schema = config_schema(registry)
    assert schema["$defs"]["filter"] == {"oneOf": [{"$ref": "#/$defs/filter.there"}]}
    jsonschema.Draft202012Validator.check_schema(deepcopy(schema))
