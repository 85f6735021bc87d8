"""What the files of a model say of themselves, read without torch and without a tensor."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path, PureWindowsPath
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open

from heritage_align.errors import CheckpointError
from heritage_align.foreign_files import foreign

T = TypeVar("T")


def refuse_foreign(path: Path) -> None:
    """Raise CheckpointError where there is no such file, or one that is something else (`foreign_files`)."""
    if path.is_dir():
        inside = ", ".join(sorted(child.name for child in path.iterdir())[:5]) or "nothing"
        raise CheckpointError(f"{path}: is a folder (it holds {inside}), expected a file of weights")
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such checkpoint file")
    try:
        instead = foreign(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot read the checkpoint: {error.strerror or error}") from error
    if instead is not None:
        raise CheckpointError(f"{path}: {instead}")


def read_settings(path: Path) -> dict[str, Any]:
    """Return the settings that lie beside a model's weights, one JSON object.

    Raises:
        CheckpointError: the file cannot be read or holds something else.
    """
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot read the model's settings: {error}") from error
    if not isinstance(settings, dict):
        raise CheckpointError(f"{path}: expected a JSON object, got {type(settings).__name__}")
    return settings


def indexed_files(index: Path) -> list[str]:
    """Return the files of weights that an index names in its ``weight_map``, which lie beside it.

    Raises:
        CheckpointError: it cannot be read, or has no object ``weight_map`` from weights to names of files.
    """
    parts = read_settings(index).get("weight_map")
    if not isinstance(parts, dict) or not all(isinstance(name, str) for name in parts.values()):
        raise CheckpointError(f"{index}: has no weight_map: it does not say which files hold the weights")
    return sorted(set(parts.values()))


def leads_outside(name: str) -> bool:
    """Tell whether a path in a model's folder leads out of it, or names no file in it."""
    path = PureWindowsPath(name)
    return not path.parts or bool(path.anchor) or ".." in path.parts


_NOT_ONE = (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)


def read_metadata(path: Path, key: str, what: str, parse: Callable[[Any], T]) -> T:
    """Return what the metadata of a safetensors file say under a key, as JSON.

    Args:
        path: the file.
        key: of the metadata; it tells files of one kind from all others.
        what: the kind, with its article, as errors call it: ``"an alignment model"``.
        parse: makes the result of the document, and may raise what a document of another form leads to: LookupError,
            TypeError, ValueError, AttributeError, OverflowError (of infinity), RecursionError.

    Raises:
        CheckpointError: the file is missing, damaged or of another kind, or `parse` refuses what it says.
    """
    refuse_foreign(path)
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
        if key not in metadata:
            raise CheckpointError(f"{path}: is not {what} (its metadata have no {key!r}); `train` writes them")
        return parse(json.loads(metadata[key]))
    except (OSError, SafetensorError, *_NOT_ONE) as error:
        raise CheckpointError(f"{path}: cannot be read as {what}: {error}") from error
