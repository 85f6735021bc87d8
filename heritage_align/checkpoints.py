"""Weights out of files as people have them: any library's wrappers around the tensors, and no code is ever run.

A file may hold tensors by name, or dictionaries of them beside an optimizer's state; names may have the beginnings
that DataParallel (``module.``), ``torch.compile`` (``_orig_mod.``), FSDP and Lightning (``model.``) put before them, in
any stack. What belongs together is found by the names that the model has, not by a list of wrappers.

>>> state = {"model/module.net.w": 1, "model/module.net.b": 2, "optimizer/state/0": 3}
>>> fitted(state, {"w", "b"}, "file")
{'w': 1, 'b': 2}
"""

from __future__ import annotations

import argparse
import pathlib
import pickle
import re
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from heritage_align.errors import CheckpointError, Note
from heritage_align.plain_numpy import STAND_INS
from heritage_align.weight_files import is_safetensors, is_text, refuse_foreign

T = TypeVar("T")

_INSIDE = re.compile(r"(^|\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)(?=\.)")
"""What torch puts into a name wherever a part of the model was compiled, sharded or checkpointed."""

_WRAPPERS = frozenset({"module", "model", "state_dict", "model_state_dict", "model_state", "net", "network", "weights"})
"""Words of a beginning that says nothing of which model it is. Of two models the one behind these alone is meant."""

_DEEPEST = 16
_LONGEST_LINE = 300
_MOST_NAMES = 1_000_000
"""Names that a file's dictionaries may have together. Few bytes can hold one dictionary under 10^16 of them."""
_PLAIN: list[Any] = [
    argparse.Namespace,
    pathlib.PosixPath,
    pathlib.WindowsPath,
    *((stand_in, name) for name, stand_in in STAND_INS.items()),
]
"""Beside tensors and what Python has: a run's arguments, paths and numbers of numpy (a best score). They run
nothing."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return all tensors of a file, those of nested dictionaries under names joined by slashes.

    Args:
        path: a file of safetensors, or what `torch.save` wrote, whatever it is called. Tensors may be views of the
            file.

    Raises:
        CheckpointError: the file is missing, damaged, something else (a Git LFS pointer, a web page), holds objects
            that could run code, no tensor, or one that is sparse, quantised or without numbers (of device meta), or
            more names than any model has.
    """
    content = read_content(path)
    named = list(islice(_flat(content), _MOST_NAMES + 1))
    if len(named) > _MOST_NAMES:
        raise CheckpointError(f"{path}: holds more than {_MOST_NAMES} names: it is no model's")
    tensors = {name: tensor for name, tensor in named if tensor is not None}
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
            kind = "quantised" if tensor.is_quantized else "without numbers" if tensor.is_meta else "sparse"
            raise CheckpointError(f"{path}: tensor {name!r} is {kind}, expected plain numbers")
    if not tensors:
        found = f"keys {list(content)[:5]}" if isinstance(content, Mapping) else type(content).__name__
        raise CheckpointError(f"{path}: expected a state dict, or a file that holds one, found {found}")
    return tensors


def read_content(path: Path) -> Any:
    """Return what a file holds, safetensors as a dictionary; raises CheckpointError as `read_tensors`."""
    refuse_foreign(path)
    if is_text(path):
        raise CheckpointError(f"{path}: is a text, and holds no weights: name the file of weights")
    zipped = zipfile.is_zipfile(path)
    if is_safetensors(path) or (path.suffix.lower() == ".safetensors" and not zipped):
        try:
            with safe_open(path, "pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (safe_open is no mapping)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path}: cannot read the checkpoint: {_first_line(error)}") from error
    if zipped and (record := _damaged_record(path)) is not None:
        raise CheckpointError(f"{path}: is damaged: {record} is not what was written; copy or download it again")
    try:
        # A mapped file leaves the optimizer's state, twice the size of the weights, on the disk.
        with torch.serialization.safe_globals(_PLAIN), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice to load it by other means, which would run what it says
            if path.suffix.lower() == ".safetensors":  # torch goes by the name
                with path.open("rb") as stream:
                    return torch.load(stream, map_location="cpu", weights_only=True)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # a damaged file makes the unpickler raise whatever there is
        raise CheckpointError(f"{path}: {refusal(error)}") from error


def _damaged_record(path: Path) -> str | None:
    """Return the first record of a zip archive that differs from its checksum; torch itself compares none.

    `torch.serialization.set_crc32_options` can leave the checksums out: then the small record ``version`` has none
    either.
    """
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        version = [name for name in names if name.endswith("/version")]
        for name in [*version, *names] if version else ():
            try:
                with archive.open(name) as stream:
                    while stream.read(2**20):
                        pass
            except (zipfile.BadZipFile, zlib.error, EOFError):
                return None if name == version[0] else name
            except (NotImplementedError, RuntimeError):  # another compression, a password: torch says that
                return None
    return None


def refusal(error: Exception) -> str:
    """Return why a file could not be loaded, without the advice of torch to load it in a way that runs its code."""
    said = str(error)
    named = re.search(r"GLOBAL ([\w.]+)", said)
    holds = (
        f"holds {named[1]}, and objects could run code" if named else "is damaged or holds objects that could run code"
    )
    refused = f"refused, because it {holds}; only tensors and plain values are read: have its state dict saved alone"
    if "TorchScript" in said:
        return "refused, because it is a TorchScript archive, which holds code; only tensors and plain values are read"
    if "not in a subdirectory" in said:
        return "is a zip archive that torch did not write; if the checkpoint is in it, unpack it"
    if named or isinstance(error, pickle.UnpicklingError) or "weights_only" in said or "pickle" in said:
        return refused
    return f"cannot read the checkpoint, it is damaged or of another kind: {_first_line(error)}"


def fitted(state: Mapping[str, T], expected: Collection[str], source: str) -> dict[str, T]:
    """Return the part of a file's tensors that is the model's, under the model's names.

    Args:
        state: by the file's names.
        expected: the model's names; with its tensors, such as a state dict, the kinds of numbers are compared too.
        source: what errors call the file.

    Returns:
        What is behind the beginning that all of `expected`, or most of it, has: the caller says what is missing and
        what is too much. Of two models, one of which is a second copy (averaged weights), a `Note` says which is taken.

    Raises:
        CheckpointError: two models are in the file, and nothing says which is meant; two names become one; or a tensor
            holds whole or complex numbers, of quantised weights for example, where the model has floating ones.
    """
    wanted = frozenset(expected)
    plain = {name: _INSIDE.sub("", name.replace("/", ".")).lstrip(".") for name in state}
    holders: dict[str, set[str]] = {}  # beginning -> the dictionaries in which names of the model are behind it
    counts: Counter[str] = Counter()
    for name, short in plain.items():
        for beginning in _beginnings(short, wanted):
            holders.setdefault(beginning, set()).add(_holder(name))
            counts[beginning] += 1
    whole = sorted(beginning for beginning, count in counts.items() if count >= len(wanted))
    idle = [beginning for beginning in whole if _WRAPPERS.issuperset(beginning.split(".")[:-1])]
    if len(whole) > 1 and len(idle) != 1:
        raise CheckpointError(
            f"{source}: holds {len(whole)} models, behind {', '.join(map(repr, whole))}; "
            "save the one that is meant alone"
        )
    chosen = (idle if len(whole) > 1 else whole) or [name for name, _ in counts.most_common(1)]
    if not chosen:
        return dict(state)
    others = tuple(beginning for beginning in whole if beginning != chosen[0])
    if others:
        taken = f"of the one behind {chosen[0]!r}" if chosen[0] else "of the one without a beginning"
        warnings.warn(
            f"{source}: holds {len(whole)} models; the weights {taken} are taken, not those behind "
            f"{', '.join(map(repr, others))}: to use these, save them alone",
            Note,
            stacklevel=2,
        )
    nested = tuple(beginning for beginning in others if beginning.startswith(chosen[0]))
    found: dict[str, T] = {}
    for name, short in plain.items():
        if not short.startswith(chosen[0]) or _holder(name) not in holders[chosen[0]]:
            continue
        if nested and short.startswith(nested):
            continue
        own = short.removeprefix(chosen[0])
        if own in found:
            raise CheckpointError(f"{source}: holds {own!r} twice, the second time as {name!r}")
        found[own] = state[name]
    if isinstance(expected, Mapping):
        _refuse_other_kinds(found, expected, source)
    return found


def _refuse_other_kinds(found: Mapping[str, Any], expected: Mapping[str, Any], source: str) -> None:
    for name, value in found.items():
        own = expected.get(name)
        if not isinstance(own, Tensor) or not isinstance(value, Tensor):
            continue
        if own.is_floating_point() and not value.is_floating_point():
            kind = str(value.dtype).removeprefix("torch.")
            raise CheckpointError(
                f"{source}: {name} holds {kind} numbers, the model floating ones; quantised weights are not read: "
                "save them as float32 or float16"
            )


def load_into(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Put a file's tensors into the model that it describes, whatever floating numbers they are kept as.

    Args:
        model: of fp32.
        state: by the file's names, which may have beginnings (`fitted`).
        source: what errors call the file.

    Raises:
        CheckpointError: names or shapes are not the model's; as `fitted` and `refuse_not_finite`.
    """
    own = fitted(state, model.state_dict(), source)
    single = {name: value.float() if value.is_floating_point() else value for name, value in own.items()}
    refuse_not_finite(own, source)
    try:
        model.load_state_dict(single)
    except RuntimeError as error:  # a paragraph for each sort of name
        said = " ".join(str(error).split())
        said = said if len(said) <= _LONGEST_LINE else f"{said[: _LONGEST_LINE - 3]}..."
        raise CheckpointError(f"{source}: its tensors do not fit the model that it describes: {said}") from error


def refuse_not_finite(state: Mapping[str, Tensor], source: str) -> None:
    """Raise CheckpointError for weights that no score can come of.

    The first tensors with NaN or infinite numbers, or float64 ones that are infinite as float32, are named with how
    many these are; and a file in which every tensor of floating numbers is zeros, which was never trained or written.
    """
    broken, floating, some = [], 0, False
    for name, value in state.items():
        if not value.is_floating_point():
            continue
        single = value.float() if value.dtype.itemsize in (1, 8) else value  # float8 has no isfinite
        finite = single.isfinite()
        if not bool(finite.all()):
            broken.append((name, int((~finite).sum()), value.numel()))
        floating += value.numel() > 1
        some = some or bool(single.any())
    if floating and not some:
        raise CheckpointError(f"{source}: holds zeros alone; these weights were not written, or never trained")
    if broken:
        name, count, total = broken[0]
        more = f", and {len(broken) - 1} tensors more" if len(broken) > 1 else ""
        raise CheckpointError(f"{source}: {name} holds {count} of {total} numbers that are NaN or infinite{more}")


def _holder(name: str) -> str:
    return name.rpartition("/")[0]


def _beginnings(name: str, wanted: frozenset[str]) -> Iterator[str]:
    """Yield what stands before a name of the model, '' where the name is one."""
    start = 0
    while start >= 0:
        if name[start:] in wanted:
            yield name[:start]
        dot = name.find(".", start)
        start = dot + 1 if dot >= 0 else -1


def _flat(content: Any, before: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor | None]]:
    """Yield every name in nested dictionaries with its tensor, None for whatever else is there."""
    if not isinstance(content, Mapping) or depth > _DEEPEST:
        return
    for key, value in content.items():
        if isinstance(value, Tensor):
            yield f"{before}{key}", value
        else:
            yield "", None
            yield from _flat(value, f"{before}{key}/", depth + 1)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
