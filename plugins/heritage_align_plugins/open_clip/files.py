"""What a model of open_clip is read from."""

from __future__ import annotations

from typing import Any

from heritage_align.plugin import ModelPart, ModelSource
from heritage_align_plugins.transformers.files import SETTINGS, TOKENIZER, TOKENIZER_SETTINGS, other_model

SETTINGS_FILE = "open_clip_config.json"
SAFETENSORS = "open_clip_model.safetensors"
WEIGHTS = (SAFETENSORS, "open_clip_pytorch_model.bin")
"""Names of the weights in a folder, the one that is read first before the other."""
PARTS = (
    ModelPart("settings", ((SETTINGS_FILE,),)),
    ModelPart("weights", tuple((name,) for name in WEIGHTS), get=(SAFETENSORS,)),
)


def text_sources(settings: dict[str, Any], *, tokenizer: bool = True) -> tuple[ModelSource, ...]:
    """Return what a model reads of others on the hub: a tokenizer's files, the settings of a text tower.

    Args:
        settings: of the model.
        tokenizer: False where the model's own folder has it.
    """
    text = settings.get("text_cfg")
    text = text if isinstance(text, dict) else {}
    wanted: dict[str, tuple[ModelPart, ...]] = {}
    if text.get("hf_model_name"):
        wanted[str(text["hf_model_name"])] = (SETTINGS,)
    if text.get("hf_tokenizer_name") and tokenizer:
        # The library asks for the settings first, also where they say nothing of a tokenizer (timm's).
        wanted[str(text["hf_tokenizer_name"])] = (SETTINGS, TOKENIZER, TOKENIZER_SETTINGS)
    return tuple(other_model(name, *parts) for name, parts in wanted.items())
