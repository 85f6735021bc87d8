"""What ``--set PLACE.name=other`` does to the settings beside the name: another component does not inherit them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from heritage_align.component import LAST, SLOTS, ComponentConfig
from heritage_align.document import get_at, read_override
from heritage_align.errors import HeritageAlignError
from heritage_align.hookspecs import Kind
from heritage_align.plugins import Registry


def change_names(document: dict[str, Any], overrides: Sequence[str], registry: Registry) -> list[str]:
    """Give the components whose name an override changes that name, in place, and take the old one's settings away.

    A resolved configuration has every default of its components written out, and a name's settings mean nothing to
    another. What both components take from one class of settings stays where it is not a default (a trainer's data,
    epochs, batch size; a data set's folder). The overrides themselves are applied afterwards, whatever their order,
    by `apply_overrides`; so what they set beside the name counts.

    Args:
        document: a configuration, its own parts alone: what else the command line puts there comes after.
        overrides: ``key=value``; those that do not read are left to `apply_overrides`.
        registry: where names are looked up. Names that it does not know are left to `resolve`.

    Returns:
        A sentence for each component that lost settings which were not defaults.
    """
    given = {path: value for path, value in map(read_override, overrides) if path}
    wanted = {path.removesuffix(".name"): value for path, value in given.items() if path.endswith(".name")}
    sentences = []
    for place in sorted(wanted, key=lambda place: place.count(".")):
        name, found = wanted[place], _component_at(document, place, registry)
        replaced = any(place == path or place.startswith(f"{path}.") for path in given)
        if found is None or replaced or not isinstance(name, str) or found[1]["name"] == name:
            continue
        kind, raw = found
        try:
            model = registry.config_model(registry.spec(kind, name))
        except HeritageAlignError:
            continue
        old, changed = raw["name"], _not_defaults(kind, raw, registry)
        common = _common_settings(_model(kind, raw, registry), model)
        kept = {key: raw[key] for key in raw if key in changed and key in common}
        lost = [key for key in changed if key not in kept and not _is_given(f"{place}.{key}", given)]
        if lost:
            settings = ", ".join(f"{key}={_shown(raw[key])}" for key in lost)
            sentences.append(f"{place}.name={name} leaves out what was set for {old}: {settings}")
        raw.clear()
        raw.update(name=name, **kept)
    return sentences


def _component_at(document: Mapping[str, Any], place: str, registry: Registry) -> tuple[Kind, dict[str, Any]] | None:
    """Return kind and settings of the component at a place, for example ``train.data``; None where there is none."""
    slot, _, rest = place.partition(".")
    kind = SLOTS.get(slot)
    if f"{place}.".startswith(f"{LAST}."):
        slot, kind, rest = LAST, "reranker", place[len(LAST) + 1 :]
    if slot == "filters":
        number, _, rest = rest.partition(".")
        slot = f"{slot}.{number}"
    while kind is not None:
        try:
            raw = get_at(document, slot)
        except (KeyError, TypeError):
            return None
        if not isinstance(raw, dict) or not isinstance(raw.get("name"), str):
            return None
        if not rest:
            return kind, raw
        document = raw
        slot, kind = next(
            ((p, k) for p, k in _nested(kind, raw, registry) if f"{rest}.".startswith(f"{p}.")), ("", None)
        )
        rest = rest[len(slot) + 1 :]
    return None


def _model(kind: Kind, raw: Mapping[str, Any], registry: Registry) -> type[ComponentConfig] | None:
    try:
        return registry.config_model(registry.spec(kind, raw["name"]))
    except HeritageAlignError:
        return None


def _settings(kind: Kind, raw: Mapping[str, Any], registry: Registry) -> ComponentConfig | None:
    model = _model(kind, raw, registry)
    if model is None:
        return None
    try:
        return model.model_validate({key: value for key, value in raw.items() if key != "name"})
    except ValueError:  # its faults are said with those of the whole configuration
        return None


def _nested(kind: Kind, raw: Mapping[str, Any], registry: Registry) -> list[tuple[str, Kind]]:
    settings = _settings(kind, raw, registry)
    return [(place, inner) for place, (inner, _) in settings.nested().items()] if settings is not None else []


def _not_defaults(kind: Kind, raw: Mapping[str, Any], registry: Registry) -> list[str]:
    """Return the settings that somebody chose; all where the component is not there to say what its defaults are."""
    settings = _settings(kind, raw, registry)
    chosen = raw if settings is None else settings.model_dump(exclude_defaults=True)
    return [key for key in raw if key != "name" and key in chosen]


def _common_settings(old: type[ComponentConfig] | None, new: type[ComponentConfig]) -> set[str]:
    shared = [base for base in (old.__mro__ if old is not None else ()) if issubclass(new, base)]
    return {key for base in shared if issubclass(base, ComponentConfig) for key in base.model_fields}


def _is_given(place: str, given: Mapping[str, Any]) -> bool:
    return any(path == place or path.startswith(f"{place}.") for path in given)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
