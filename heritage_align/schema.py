"""JSON schema of a configuration: what an editor needs to complete and check a YAML file while it is
written."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from heritage_align.component import LAST, SLOTS
from heritage_align.config import (
    CONFIG_VERSION,
    DEFAULTED,
    NAME_PATTERN,
    RuntimeSettings,
    SearchSettings,
    StoreSettings,
)
from heritage_align.errors import PluginError
from heritage_align.hookspecs import KINDS, ComponentSpec
from heritage_align.plugins import Registry, default_registry

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SECTIONS: dict[str, type[BaseModel]] = {"store": StoreSettings, "search": SearchSettings, "runtime": RuntimeSettings}
REQUIRED = ("version", "name", "encoder", "similarity")


def config_schema(registry: Registry) -> dict[str, Any]:
    """Return the schema of a whole configuration: per slot one of the registered components.

    A component whose settings do not import is left out, as a config that names it is refused.
    """
    definitions: dict[str, Any] = {}
    for spec in registry.components():
        try:
            definitions[_key(spec)] = _settings(registry, spec, definitions)
        except PluginError:
            continue
    for kind in KINDS:
        names = [key for key in definitions if key.startswith(f"{kind}.") and key.count(".") == 1]
        # JSON schema has no empty choice: where nothing is registered, nothing is valid.
        definitions[kind] = {"oneOf": [_reference(key) for key in names]} if names else {"not": {}}
    properties: dict[str, Any] = {
        "version": {"const": CONFIG_VERSION},
        "name": {
            "type": "string",
            "pattern": f"^{NAME_PATTERN}$",
            "description": "name of the system; the tag of its runs",
        },
    }
    for slot, kind in SLOTS.items():
        one = _reference(kind)
        if slot == "filters":
            properties[slot] = {"type": "array", "items": one}
        else:
            properties[slot] = one if slot in (*REQUIRED, *DEFAULTED) else {"anyOf": [one, {"type": "null"}]}
    for section, model in SECTIONS.items():
        properties[section] = model.model_json_schema()
    section, _, key = LAST.partition(".")
    properties[section]["properties"][key] = {"anyOf": [_reference("reranker"), {"type": "null"}]}
    return {
        "$schema": DIALECT,
        "title": "heritage-align configuration",
        "type": "object",
        "properties": properties,
        "required": list(REQUIRED),
        "additionalProperties": False,
        "$defs": definitions,
    }


def component_schema(kind: str, name: str, registry: Registry | None = None) -> dict[str, Any]:
    """Return the schema of one component as it stands in a config, ``{name: ..., **settings}``.

    Raises:
        PluginError: the name is unknown or its settings do not import.
    """
    registry = registry or default_registry()
    if kind not in KINDS:
        raise PluginError(f"unknown kind {kind!r}; known: {', '.join(KINDS)}")
    definitions: dict[str, Any] = {}
    schema = _settings(registry, registry.spec(kind, name), definitions)
    return {"$schema": DIALECT, **schema, **({"$defs": definitions} if definitions else {})}


def _settings(registry: Registry, spec: ComponentSpec, definitions: dict[str, Any]) -> dict[str, Any]:
    """Return a component's schema; models that it refers to go to `definitions`, under its own name."""
    prefix = f"{_key(spec)}."
    model = registry.config_model(spec)
    schema = model.model_json_schema(ref_template=f"#/$defs/{prefix}{{model}}")
    definitions.update({prefix + name: inner for name, inner in schema.pop("$defs", {}).items()})
    schema["properties"] = {"name": {"const": spec.name}, **schema.get("properties", {})}
    schema["required"] = ["name", *schema.get("required", [])]
    return {**schema, "title": _key(spec), "description": spec.summary or schema.get("description", "")}


def _key(spec: ComponentSpec) -> str:
    return f"{spec.kind}.{spec.name}"


def _reference(key: str) -> dict[str, str]:
    return {"$ref": f"#/$defs/{key}"}
