"""What the files of a model say of themselves, read without torch and without a tensor."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path, PureWindowsPath
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open

from heritage_align.errors import CheckpointError
from heritage_align.foreign_files import foreign

T = TypeVar("T")


_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"7z\xbc\xaf": "7z", b"Rar!": "RAR"}
_FORMATS = {b"\x89HDF\r\n\x1a\n": "HDF5 (Keras, TensorFlow)", b"GGUF": "GGUF (llama.cpp)", b"\x93NUMPY": "numpy (.npy)"}
_ZIP, _TAR = b"PK\x03\x04", b"ustar"
_LONGEST_HEADER = 100_000_000
"""Bytes, as safetensors allows."""


def refuse_foreign(path: Path) -> None:
    """Raise CheckpointError where there is no such file, one that is something else (`foreign_files`, or weights of
    another library), or one that is cut off."""
    if path.is_dir():
        inside = ", ".join(sorted(child.name for child in path.iterdir())[:5]) or "nothing"
        raise CheckpointError(f"{path}: is a folder (it holds {inside}), expected a file of weights")
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such checkpoint file")
    try:
        instead = not_weights(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot read the checkpoint: {error.strerror or error}") from error
    if instead is not None:
        raise CheckpointError(f"{path}: {instead}")


def not_weights(path: Path) -> str | None:
    """Return what a file is instead of whole weights, as the rest of a sentence that begins with its name; None where
    nothing is known. Raises OSError."""
    head = _head(path)
    return foreign(path) or _other_format(path, head) or _cut_off(path, head)


def is_safetensors(path: Path) -> bool:
    """Tell a file of safetensors by its beginning, whatever it is called; raises OSError."""
    return _header_end(_head(path)) is not None


def is_text(path: Path) -> bool:
    """Tell a file of settings, an index or a model card, whose beginning is one of a text; raises OSError."""
    head = _head(path)
    return head[:1] in b"{[#<" and all(byte >= 32 or byte in b"\t\n\r" for byte in head)


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(512)


def _header_end(head: bytes) -> int | None:
    """Return where the header of a file of safetensors ends, None for the beginning of another file."""
    length = int.from_bytes(head[:8], "little")
    return 8 + length if head[8:9] == b"{" and length <= _LONGEST_HEADER else None


def _other_format(path: Path, head: bytes) -> str | None:
    """Return what a file is instead of weights of torch, as the rest of a sentence; None where it may be these."""
    packed = next((name for mark, name in _PACKED.items() if head.startswith(mark)), None)
    if head[257:262] == _TAR:
        packed = "tar"
    if packed is not None:
        return f"is packed ({packed}): unpack it, and name the file of weights in it"
    known = next((name for mark, name in _FORMATS.items() if head.startswith(mark)), None)
    if path.suffix.lower() == ".onnx":
        known = "ONNX"
    if known is None:
        return None
    return f"is a file of {known}, which is not read: have the weights saved as .safetensors, or by torch.save"


def _cut_off(path: Path, head: bytes) -> str | None:
    """Return that a file ends too early, where its beginning or its form tells, as the rest of a sentence."""
    size = path.stat().st_size
    if head.startswith(_ZIP) and not zipfile.is_zipfile(path):
        return f"is cut off: it has {size} bytes, and its directory, which is at the end, is missing; copy it again"
    begin = _header_end(head)
    if begin is None:
        return None
    end = begin
    if begin <= size:
        with path.open("rb") as stream:
            header = stream.read(begin)[8:]
        try:
            spans = [entry["data_offsets"] for name, entry in json.loads(header).items() if name != "__metadata__"]
            end += max((int(stop) for _, stop in spans), default=0)
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError):
            return None  # the library says what is wrong
    return f"is cut off: it has {size} bytes and should have {end}; copy it again" if size < end else None


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
