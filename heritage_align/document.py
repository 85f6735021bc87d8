"""Read a configuration's YAML as plain data, and change values in it from the command line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from heritage_align.errors import ConfigError

_MOST_MERGED = 20_000
"""3,500 merges of 3,000 keys, in 80 KB, took 55 s."""


class _BoundedLoader(yaml.SafeLoader):
    """SafeLoader whose merges (<<) come to an end."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._merged = 0

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        own = len(node.value)
        super().flatten_mapping(node)
        self._merged += len(node.value) - own
        if self._merged > _MOST_MERGED:
            fault = f"more than {_MOST_MERGED} keys merged (<<)"
            raise yaml.constructor.ConstructorError(None, None, fault, node.start_mark)


class _UniqueKeyLoader(_BoundedLoader):
    """Refuses a key given twice; plain YAML silently keeps the last."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._checked: dict[int, yaml.MappingNode] = {}  # by identity; holding a node keeps its id from another

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        # Merging (<<) rewrites a node in place, with the merged keys in front of its own. So a node is looked
        # at once, before that: later its overridden keys would look like keys given twice.
        if id(node) not in self._checked:
            self._checked[id(node)] = node
            seen: set[str] = set()
            for key in (k for k, _ in node.value if isinstance(k, yaml.ScalarNode)):
                if key.value in seen:
                    fault = f"key {key.value!r} twice"
                    raise yaml.constructor.ConstructorError(None, None, fault, key.start_mark)
                seen.add(key.value)
        super().flatten_mapping(node)


def parse_yaml(text: str, source: str) -> dict[str, Any]:
    """Parse one YAML mapping, refusing duplicate keys and anything but plain data; raises ConfigError."""
    try:
        document = load_plain(text)
    except ValueError as error:
        raise ConfigError([f"is not YAML: {error}"], source) from error
    if not isinstance(document, dict):
        raise ConfigError([f"expected a mapping at the top, got {type(document).__name__}"], source)
    problems = list(_not_json(document, "", (), set()))
    if problems:
        raise ConfigError(problems, source)
    return document


def load_plain(text: str, *, repeated_keys: bool = False) -> Any:
    """Return what a YAML text says, whatever its type; raises ValueError.

    Args:
        text: the document.
        repeated_keys: let the last of equal keys stand, as YAML's readers do, instead of refusing them.
    """
    # Beside its own errors PyYAML's constructors raise ValueError (a date 2024-99-99), KeyError (!!bool maybe),
    # AttributeError, IndexError, OverflowError, RecursionError ...: at this border they all mean the same.
    try:
        return yaml.load(text, Loader=_BoundedLoader if repeated_keys else _UniqueKeyLoader)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except Exception as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error


def _not_json(value: Any, place: str, parents: tuple[int, ...], seen: set[int]) -> Iterator[str]:
    """Yield what a JSON document could not hold, and so no resolved copy: YAML knows more types than that."""
    where = place or "document"
    if isinstance(value, dict | list):
        if id(value) in parents:
            yield f"{where}: contains itself (an alias of a parent)"
        elif id(value) not in seen:  # one look at what many aliases name
            seen.add(id(value))
            prefix, parents = f"{place}." if place else "", (*parents, id(value))
            for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
                if isinstance(value, dict) and not isinstance(key, str):
                    yield f"{where}: key {key!r} is no text to YAML; put it in quotes"
                else:
                    yield from _not_json(inner, f"{prefix}{key}", parents, seen)
                    if isinstance(key, str):
                        yield from _not_json(key, f"{prefix}{key!a}", parents, seen)
    elif isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            yield f"{where}: {value!a} holds a lone surrogate, which no UTF-8 file can"
    elif isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            yield f"{where}: an integer of more than 64 bits"
    elif value is not None and not isinstance(value, float):
        yield f"{where}: is a {type(value).__name__} to YAML; put it in quotes if text is meant"


def read_yaml(path: Path) -> dict[str, Any]:
    """Read and parse a UTF-8 file; raises ConfigError that names it."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        fault = f"cannot be read: it is not UTF-8 (byte {error.start + 1}: {error.reason})"
        raise ConfigError([fault], str(path)) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError([f"cannot be read: {reason}"], str(path)) from error
    return parse_yaml(text, str(path))


def apply_overrides(document: dict[str, Any], overrides: Sequence[str], source: str) -> None:
    """Set values in place from ``"similarity.temperature=9"`` and the like; values are YAML, later ones win.

    Raises:
        ConfigError: every override that does not fit.
    """
    problems = [f"override {text!r}: {fault}" for text in overrides if (fault := _override(document, text))]
    if problems:
        raise ConfigError(problems, source)


def read_override(override: str) -> tuple[str, Any]:
    """Return the dotted path and the value of one override; an empty path for one that does not read."""
    path, separator, text = override.partition("=")
    try:
        return (path, load_plain(text)) if separator and all(path.split(".")) else ("", None)
    except ValueError:
        return "", None


def _override(document: dict[str, Any], override: str) -> str:
    """Apply one override; return what is wrong with it, or ``""``."""
    path, separator, text = override.partition("=")
    keys = path.split(".")
    if not separator or not all(keys):
        return "is not of the form a.b=value"
    try:
        value = load_plain(text)
    except ValueError:
        return "the value is not YAML"
    for fault in _not_json(value, path, (), set()):
        return fault
    target: Any = document
    for key in keys[:-1]:
        if isinstance(target, dict):
            target = target.setdefault(key, {})
        elif isinstance(target, list) and _is_index(key, target):
            target = target[int(key)]
        else:
            return f"there is no {key!r} to set something in"
    if isinstance(target, dict):
        target[keys[-1]] = value
    elif isinstance(target, list) and _is_index(keys[-1], target):
        target[int(keys[-1])] = value
    else:
        return f"there is no {keys[-1]!r} to set"
    return ""


def _is_index(key: str, items: Sequence[Any]) -> bool:
    return key.isdecimal() and int(key) < len(items)


def set_at(document: Any, place: str, value: Any) -> None:
    """Set what stands at a dotted place, for example ``terms.0.similarity``; raises KeyError if it is new."""
    *parents, last = place.split(".")
    for key in parents:
        document = document[_step(document, key)]
    document[_step(document, last)] = value


def get_at(document: Any, place: str) -> Any:
    """Return what stands at a dotted place; raises KeyError if there is nothing."""
    for key in place.split("."):
        document = document[_step(document, key)]
    return document


def _step(container: Any, key: str) -> Any:
    if isinstance(container, Mapping) and key in container:
        return key
    if isinstance(container, list) and _is_index(key, container):
        return int(key)
    raise KeyError(key)
