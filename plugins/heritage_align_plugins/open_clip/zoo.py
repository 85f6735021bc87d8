"""The names of the library's zoo: what each is read from, and where that is on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

from heritage_align.plugin import CheckpointError, ModelPart, ModelSource, did_you_mean, user_path
from heritage_align_plugins.open_clip.files import SAFETENSORS, WEIGHTS, text_sources


def is_of_the_zoo(name: str) -> bool:
    """Tell whether a model of the zoo has this name."""
    return name in open_clip.list_models()


def unknown(name: str) -> str:
    """Return what is said of a name that no model has."""
    return f"is no model of open_clip's zoo, and no folder.{did_you_mean(name, open_clip.list_models())}"


def needs_weights(name: str) -> str:
    """Return what is said of a model without its weights: a tag, or a file, has to be named too."""
    tags = list_pretrained_tags_by_model(name)
    known = f"tags: {', '.join(tags)}" if tags else "the zoo has no weights of it"
    return f"needs pretrained, a tag or a file of weights; {known}"


def sources(name: str, pretrained: str | None, revision: str | None) -> tuple[ModelSource, ...]:
    """Return where a model of the zoo is read from, its weights first.

    Args:
        name: of the model.
        pretrained: tag or file.
        revision: of the tag's repository.

    Raises:
        CheckpointError: there is no such model, tag or file.
    """
    if not is_of_the_zoo(name):
        raise CheckpointError(f"{name}: {unknown(name)}")
    if pretrained is None:
        raise CheckpointError(f"{name}: {needs_weights(name)}")
    return (_weights(name, pretrained, revision), *text_sources(open_clip.get_model_config(name)))


def tag(name: str, pretrained: str) -> dict[str, Any]:
    """Return what the library keeps of a tag, {} where `pretrained` is none."""
    found: dict[str, Any] = get_pretrained_cfg(name, pretrained)
    return found


def _weights(name: str, pretrained: str, revision: str | None) -> ModelSource:
    found, called = tag(name, pretrained), f"{name}:{pretrained}"
    if not found:
        file = user_path(pretrained)
        if not file.is_file():
            reason = needs_weights(name).partition("; ")[2]
            raise CheckpointError(f"{name}: pretrained {pretrained!r} is neither a tag nor a file; {reason}")
        return ModelSource(called, (ModelPart("weights", ((file.name,),)),), file.parent)
    if found.get("hf_hub"):
        # owner/repository/file, without the last for the usual names
        repository, _, file_name = found["hf_hub"].rpartition("/")
        # As the library does, a safetensors file before the other of its name.
        usual = not file_name or file_name in WEIGHTS
        names = WEIGHTS if usual else tuple(dict.fromkeys((f"{Path(file_name).stem}.safetensors", file_name)))
        part = ModelPart("weights", tuple((one,) for one in names), get=(SAFETENSORS if usual else file_name,))
        return ModelSource(called, (part,), repository=repository, revision=revision, pin="revision")
    folder, _, file_name = found["url"].rpartition("/")
    return ModelSource(
        called,
        (ModelPart("weights", ((file_name,),)),),
        Path("~/.cache/clip").expanduser(),
        url=f"{folder}/{file_name}",
    )
