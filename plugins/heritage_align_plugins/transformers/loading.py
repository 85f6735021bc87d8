"""Load a model of the transformers library without running code from its folder, and name its weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from heritage_align.plugin import (
    CheckpointError,
    Encoder,
    HeritageAlignError,
    Reranker,
    refusal,
    refuse_foreign,
    refuse_not_finite,
)
from heritage_align_plugins.transformers.files import TOKENIZER, library_model

_TRIED_SIDE = 64  # pixels
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


def reason_of(error: Exception) -> str:
    """Return why a library could not do something, in one line: its first, and the next where that only announces it.

    An error that says little without the name of its class has it in front: a KeyError is the key alone.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    announced = bool(lines) and lines[0].endswith(":")
    said = " ".join(lines[: 2 if announced else 1])
    plain = announced or isinstance(error, (OSError, ValueError, RuntimeError, ImportError))
    return said if said and plain else f"{type(error).__name__}: {said}".removesuffix(": ")


@contextmanager
def first_use(name: str) -> Iterator[None]:
    """Raise CheckpointError, that names a model, for whatever its library raises when it is used for the first time.

    Of settings of other types than the library expects (a text for a number, a template of conversations that does not
    parse) many are read only then, and anything may come of them.
    """
    try:
        yield
    except HeritageAlignError:
        raise
    except Exception as error:
        raise CheckpointError(f"{name}: its files were read, and it cannot be used: {reason_of(error)}") from error


def noise(side: int = _TRIED_SIDE) -> Image.Image:
    """Return a square picture of noise, on which a model is tried."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))


def tried(encoder: Encoder, name: str) -> int:
    """Encode a picture of noise and a word, and return the dimensions of both.

    Raises:
        CheckpointError: that fails, gives NaN or infinite numbers, or vectors of different dimensions.
    """
    with first_use(name):
        picture = encoder.encode_pixels(encoder.prepare(noise())[None]).global_features
        word = encoder.encode_texts(["x"])
    for what, vectors in (("a picture", picture), ("a text", word)):
        refuse_vectors_not_finite(vectors, what, name)
    if picture.shape[1] != word.shape[1]:
        raise CheckpointError(
            f"{name}: pictures have {picture.shape[1]} dimensions and texts {word.shape[1]}: they cannot be compared"
        )
    return int(picture.shape[1])


def try_pair(reranker: Reranker, name: str) -> None:
    """Rate a picture of noise and a word; raises CheckpointError where that fails, or gives NaN or infinite numbers."""
    with first_use(name):
        rated = reranker.rate([(noise(), "x")])
    refuse_vectors_not_finite(rated, "a picture and a text", name)


def refuse_vectors_not_finite(vectors: torch.Tensor, what: str, name: str) -> None:
    """Raise CheckpointError for a result with NaN or infinite numbers.

    Args:
        vectors: of a model that was tried.
        what: it was tried on.
        name: what the error calls the model.
    """
    if not bool(vectors.isfinite().all()):
        raise CheckpointError(
            f"{name}: makes NaN or infinite numbers of {what}: a setting of its files is wrong (image_std, "
            "layer_norm_eps), or its numbers are too large for this runtime.precision"
        )


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
    except Exception as error:  # settings of other types than it expects make the library raise whatever there is
        reason = reason_of(error)
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
            have other shapes than the settings say, or are NaN or infinite.
    """
    # Sizes that do not match are let through, and refused below: the library's own error does not name one.
    options = {"revision": revision, "dtype": dtype, "output_loading_info": True, "ignore_mismatched_sizes": True}
    model, report = load(factory, name, **options)
    missing = sorted(k for k in report["missing_keys"] if not k.startswith(unused))
    if missing:
        more = "; ..." if len(missing) > 3 else ""
        raise CheckpointError(f"{name}: {len(missing)} weights are missing ({'; '.join(missing[:3])}{more})")
    for key, found, expected in sorted(report["mismatched_keys"]):
        if not key.startswith(unused):
            raise CheckpointError(
                f"{name}: {key} has shape {tuple(found)}, and by the model's settings {tuple(expected)}"
            )
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
