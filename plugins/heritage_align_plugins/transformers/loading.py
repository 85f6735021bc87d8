"""Load a model of the transformers library without running code from its folder, and name its weights."""

from __future__ import annotations

import hashlib
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError

from heritage_align.plugin import CheckpointError, refusal, refuse_foreign, refuse_not_finite
from heritage_align_plugins.transformers.files import TOKENIZER, library_model

LOADING_ERRORS = (
    OSError,
    ValueError,
    KeyError,
    RuntimeError,
    ImportError,
    SafetensorError,
    UnpicklingError,
)
"""What the library lets through when a folder is missing, incomplete or damaged, or needs another library."""

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def files_of(name: str, folder: Path | None, revision: str | None) -> Path:
    """Return the folder with a model's files; nothing is fetched.

    Args:
        name: as the configuration has it.
        folder: of it, None for a name on the hub.
        revision: of the hub's repository.

    Raises:
        CheckpointError: it is not there; says how to get it.
    """
    if folder is not None:
        if not folder.is_dir():
            raise CheckpointError(f"{name}: there is no such folder")
        return folder
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=True))
    except (OSError, ValueError) as error:
        at = f" --revision {revision}" if revision else ""
        raise CheckpointError(
            f"{name}: is no folder, and not in the cache of the Hugging Face hub; fetch it once: hf download {name}{at}"
        ) from error


def need_tokenizer(folder: Path, name: str) -> None:
    """Raise CheckpointError where a folder has no tokenizer, or half of one: the library makes one that knows no word.

    Args:
        folder: of the tokenizer's files.
        name: what the error calls the model.
    """
    if TOKENIZER.found(folder) is not None:
        return
    lacking = "tokenizer.json"
    for group in TOKENIZER.any_of:
        there = [file for file in group if (folder / file).is_file()]
        if there:
            lacking = f"{' and '.join(there)} alone, without {' and '.join(set(group) - set(there))}"
    fetch = "fetch the files whose names begin with tokenizer as well"
    raise CheckpointError(f"{name}: there is no tokenizer ({lacking}): {fetch}")


def need_words(tokenizer: Any, name: str) -> None:
    """Raise CheckpointError for a tokenizer that knows marks alone, as the library makes one where files are gone."""
    words = set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens)
    if not words - {str(token) for token in tokenizer.added_tokens_decoder.values()}:
        raise CheckpointError(f"{name}: its tokenizer knows no word: fetch its files again")


def load_tokenizer(factory: Any, name: str, revision: str | None, **options: Any) -> Any:
    """Load a tokenizer, or a processor with one.

    Args:
        factory: ``AutoTokenizer`` or ``AutoProcessor``.
        name: folder or hub name.
        revision: of the hub's repository.
        options: of ``from_pretrained``.

    Raises:
        CheckpointError: see `load`; or the vocabulary is not there.
    """
    if Path(name).is_dir():
        need_tokenizer(Path(name), name)
    made = load(factory, name, revision=revision, **options)
    fetched = None if Path(name).is_dir() else library_model(name, None, revision, TOKENIZER).here()
    if fetched is not None:
        need_tokenizer(fetched, name)
    need_words(getattr(made, "tokenizer", made), name)
    return made


def load(factory: Any, name: str, **options: Any) -> Any:
    """Call ``factory.from_pretrained(name, **options)``; only code of the library itself is run.

    Raises:
        CheckpointError: there is no such folder or hub name, or it does not hold what `factory` loads; a file in it
            is a Git LFS pointer or a web page.
    """
    folder = Path(name)
    if folder.is_dir():
        for file in sorted(folder.iterdir()):
            if file.is_file() and file.stat().st_size:  # an empty file of notes is no fault
                refuse_foreign(file)
    try:
        return factory.from_pretrained(name, trust_remote_code=False, **options)
    except LOADING_ERRORS as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        if "pickle" in str(error) or "weights_only" in str(error):  # the library's advice would run what a file says
            reason = refusal(error)
        raise CheckpointError(f"{name}: {factory.__name__} cannot load it: {reason}") from error


def load_weights(
    factory: Any, name: str, revision: str | None, unused: tuple[str, ...] = (), dtype: Any = torch.float32
) -> torch.nn.Module:
    """Load a model in evaluation mode.

    Args:
        factory: ``AutoModel`` or a model class.
        name: folder or hub name.
        revision: of the hub's repository.
        unused: beginnings of weights that may be missing, because the caller makes no use of them.
        dtype: of the weights; ``"auto"`` for that of the files, where twice their size would be too much.

    Raises:
        CheckpointError: see `load`; or weights are missing, which the library would fill with random numbers,
            or are NaN or infinite.
    """
    model, report = load(factory, name, revision=revision, dtype=dtype, output_loading_info=True)
    missing = sorted(k for k in report["missing_keys"] if not k.startswith(unused))
    if missing:
        more = "; ..." if len(missing) > 3 else ""
        raise CheckpointError(f"{name}: {len(missing)} weights are missing ({'; '.join(missing[:3])}{more})")
    refuse_not_finite(model.state_dict(), name)
    evaluated: torch.nn.Module = model.eval()
    return evaluated


def fingerprint(model: torch.nn.Module) -> str:
    """Return ``sha256:`` of the names of a model's weights and their bytes as fp32, whatever type they are kept in."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return f"sha256:{digest.hexdigest()}"


def check_texts(texts: Any) -> list[str]:
    """Return the texts as a list; raises ValueError naming the place of one that is empty or no string."""
    for position, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"texts[{position}]: expected a text that is not empty, got {text!r}")
    return list(texts)
