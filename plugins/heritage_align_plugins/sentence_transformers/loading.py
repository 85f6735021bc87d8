"""Load a model of the library from files that are there, without running code from them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from sentence_transformers.base import BaseModel
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from heritage_align.plugin import BuildContext, CheckpointError, refuse_foreign, refuse_not_finite
from heritage_align_plugins.sentence_transformers.config import refuse_other_family
from heritage_align_plugins.transformers.loading import (
    DTYPES,
    files_of,
    fingerprint,
    need_tokenizer,
    need_words,
    reason_of,
)

Model = TypeVar("Model", bound=BaseModel)


def load_model(factory: type[Model], config: Any, context: BuildContext) -> tuple[Model, str]:
    """Load a model in evaluation mode, and hash its weights.

    Args:
        factory: class of the library.
        config: with `model`, `revision` and `folder()`.
        context: device and precision.

    Returns:
        The model, and ``sha256:`` of its weights, whatever the precision.

    Raises:
        CheckpointError: it is not there, is of another class, incomplete or damaged, or needs code of its own.
    """
    folder = files_of(config.model, config.folder(), config.revision)
    refuse_other_family(folder, factory.__name__)
    for part in config.models()[0].parts:
        if part.needed and part.found(folder) is None:
            if part.what == "tokenizer":
                need_tokenizer(folder / Path(part.any_of[0][0]).parent, config.model)
            raise CheckpointError(f"{config.model}: there is no {' or '.join(' + '.join(one) for one in part.any_of)}")
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        if file.stat().st_size:  # an empty file of notes is no fault
            refuse_foreign(file)
    try:
        with _missing_weights() as reports:
            # In the files' own type: a model of billions of weights is not held twice as large first.
            model = factory(
                str(folder),
                device="cpu",
                trust_remote_code=False,
                local_files_only=True,
                model_kwargs={"dtype": "auto"},
            )
    except Exception as error:  # settings of a module that do not fit its class, of other types than it expects
        raise CheckpointError(f"{config.model}: {factory.__name__} cannot load it: {reason_of(error)}") from error
    tokenizer = model.tokenizer
    if isinstance(tokenizer, PreTrainedTokenizerBase):
        need_words(tokenizer, config.model)
    if reports:
        raise CheckpointError(f"{config.model}: weights are missing ({'; '.join(reports[:3])})")
    refuse_not_finite(model.state_dict(), config.model)
    name = fingerprint(model)
    # `float` before: a model whose files are fp32 goes to fp32 untouched, one of bf16 is widened exactly.
    return model.to(torch.device(context.device), DTYPES[context.precision]).eval(), name


@contextmanager
def _missing_weights() -> Iterator[list[str]]:
    """Collect the names of weights that the library fills with random numbers, which it says in a warning alone."""
    found: list[str] = []

    class Reader(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            for line in record.getMessage().splitlines():
                if "MISSING" in line and "|" in line:
                    found.append(line.partition("|")[0].strip())

    logger = transformers_logging.get_logger("transformers")
    reader, propagates, level = Reader(logging.WARNING), logger.propagate, logger.level
    others = list(logger.handlers)
    logger.handlers, logger.propagate = [reader], False
    logger.setLevel(logging.WARNING)
    try:
        yield found
    finally:
        logger.handlers, logger.propagate = others, propagates
        logger.setLevel(level)


def refuse_without_pictures(model: BaseModel, name: str) -> None:
    """Raise CheckpointError for a model of texts alone."""
    if not model.supports("image"):
        known = ", ".join(map(str, model.modalities))
        raise CheckpointError(f"{name}: takes no pictures ({known}); name it as text_encoder, or take another model")
