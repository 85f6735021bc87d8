"""What a model of the transformers library is read from."""

from __future__ import annotations

import re
from pathlib import Path

from heritage_align.plugin import ModelPart, ModelSource, user_path

SETTINGS = ModelPart("settings", (("config.json",),))
SAFETENSORS = ModelPart("weights", (("model.safetensors",), ("model.safetensors.index.json",)))
WEIGHTS = ModelPart("weights", (*SAFETENSORS.any_of, ("pytorch_model.bin",), ("pytorch_model.bin.index.json",)))
TOKENIZER = ModelPart(
    "tokenizer",
    (
        ("tokenizer.json",),
        ("vocab.txt",),
        ("vocab.json", "merges.txt"),
        ("spiece.model",),
        ("tokenizer.model",),
        ("sentencepiece.bpe.model",),
        ("sentencepiece.model",),
        ("spm.model",),
        ("tekken.json",),
    ),
    get=("tokenizer*", "vocab.*", "merges.txt", "*.model", "tekken.json"),
)
"""Files of vocabularies, as the library's tokenizers name them, the one that it reads first before the others."""
TOKENIZER_SETTINGS = ModelPart("tokenizer", (("tokenizer_config.json",),), needed=False)
PICTURES = ModelPart("pictures", (("preprocessor_config.json",), ("processor_config.json",)))
CHAT = ModelPart("chat", (("chat_template.jinja",), ("chat_template.json",)))
ADAPTER = (
    ModelPart("adapter", (("adapter_config.json",),)),
    ModelPart("adapter", (("adapter_model.safetensors",), ("adapter_model.bin",))),
)
"""What the library PEFT trained of a model, which is read beside the model itself."""


def library_model(name: str, folder: Path | None, revision: str | None, *parts: ModelPart) -> ModelSource:
    """Return where a model is read from: a folder, or else the repository of its name on the hub."""
    repository, pin = (name, "revision") if folder is None else ("OWNER/NAME", None)
    return ModelSource(name, parts, folder, repository=repository, revision=revision, pin=pin)


def other_model(name: str, *parts: ModelPart) -> ModelSource:
    """Return what is read of another model that a model's files name: a folder, as whoever trained it wrote it, or one
    of the hub. No setting says at what revision."""
    folder = Path(name)
    if folder.is_absolute() or folder.is_dir():
        return library_model(name, folder, None, *parts)
    return ModelSource(name, parts, repository=name)


def is_name(name: str) -> bool:
    """Tell whether a model's name can be one of the hub, as OWNER/NAME, or is a folder that is there."""
    if not name.strip():
        return False
    return user_path(name).is_dir() or re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", name, re.ASCII) is not None
