"""Settings of the transformers encoder, and what a model folder says about itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from heritage_align.plugin import (
    CheckpointError,
    ComponentConfig,
    Facts,
    ModelPart,
    ModelSource,
    read_settings,
    user_path,
)
from heritage_align_plugins.transformers.files import (
    PICTURES,
    SETTINGS,
    TOKENIZER,
    TOKENIZER_SETTINGS,
    WEIGHTS,
    is_name,
    library_model,
)

CLIP_LIKE = ("chinese_clip", "clip")
SIGLIP_LIKE = ("siglip", "siglip2")
RecipeName = Literal["plain", "clearclip", "naclip"]


TEXT_SETTINGS = ("context_length", "characters")
_OTHERS = (ModelPart("settings", (("modules.json",),)), ModelPart("settings", (("open_clip_config.json",),)))
"""Settings as sentence-transformers and open_clip save them."""


class TransformersConfig(ComponentConfig):
    """A model with an image and a text tower, and how pictures are fed to it."""

    model: str = Field(
        min_length=1,
        description="local folder, or name on the Hugging Face hub, for example OFA-Sys/chinese-clip-vit-base-patch16",
    )
    revision: str | None = Field(None, description="branch, tag or commit on the hub; a commit pins the files")
    squeeze: bool = Field(
        False,
        description="squeeze the whole picture to the model's square, as image_size does, too; otherwise the "
        "model's own processor decides, and CLIP's crops the borders away, which leaves no patch features",
    )
    image_size: int | None = Field(
        None, ge=1, le=4096, description="side of the square input in pixels; position embeddings are interpolated"
    )
    context_length: int | None = Field(
        None,
        ge=3,
        description="tokens of a text that are read; all that the model has positions for by default",
    )
    characters: Literal["auto", "simplified", "as_written"] = Field(
        "auto",
        description="Chinese characters that are read: auto (simplified if OpenCC is installed and the vocabulary has "
        "more of them than of the traditional ones), simplified, as_written",
    )
    patch_features: RecipeName = Field(
        "plain",
        description="last block for patches: plain (as trained), clearclip (query-query attention alone), naclip "
        "(key-key attention that favours neighbours); SigLIP has plain alone, its patches pass its pooling head one by "
        "one",
    )
    naclip_sigma: float = Field(5.0, gt=0, description="reach of naclip's neighbourhood, in patches")
    regions: Literal["crops", "roi"] = Field(
        "crops",
        description="boxes of a proposer: crops, each encoded as a picture; roi, pooled out of the patches "
        "(`patch_features`) of the whole picture, one forward pass for all of them",
    )

    def folder(self) -> Path | None:
        """Return the local folder, None for a name on the hub."""
        return local_folder(self.model)

    def models(self) -> tuple[ModelSource, ...]:
        """Return the model's files."""
        parts = (SETTINGS, WEIGHTS, TOKENIZER, TOKENIZER_SETTINGS, PICTURES)
        return (library_model(self.model, self.folder(), self.revision, *parts),)

    @classmethod
    def for_model(cls, name: str) -> TransformersConfig | None:
        """Return the settings that read a model of the families that are known here; what is not here may be one."""
        kind = type_of(name)
        # Of another library's model there may be no config.json, but a file of that library's.
        absent = kind is None and is_name(name) and not _of_another(name) and "fg-clip" not in name.lower()
        return cls(model=name) if kind in (*CLIP_LIKE, *SIGLIP_LIKE) or absent else None

    def facts(self) -> Facts:
        """Return what the folder says; of a hub model nothing is known before it is fetched.

        Raises:
            ValueError: `regions` is roi and the model gives no patches to pool.
            CheckpointError: the folder holds an FG-CLIP.
        """
        boxes = ("boxes",) if self.regions == "roi" else ()
        unread = ("global", "texts", "patches", *boxes)
        folder = self.folder()
        if folder is None:
            return Facts(outputs=unread, text_settings=TEXT_SETTINGS)
        files = {"model": folder / "config.json"}
        if not files["model"].is_file():
            return Facts(outputs=unread, files=files, text_settings=TEXT_SETTINGS)
        settings = read_settings(files["model"])
        refuse_fg_clip(settings, self.model)
        kind, vision = settings.get("model_type"), settings.get("vision_config") or {}
        if not isinstance(vision, dict):
            raise CheckpointError(f"{files['model']}: vision_config is no object")
        known = kind in (*CLIP_LIKE, *SIGLIP_LIKE)
        said = settings.get("projection_dim") if kind in CLIP_LIKE else vision.get("hidden_size")
        dim = said if known and isinstance(said, int) else None  # other families say it elsewhere
        cut = known and self._crops(folder, kind in CLIP_LIKE)
        if boxes and (cut or not known):
            raise ValueError(no_boxes(self.model, kind, cut=cut))
        patches = ("patches",) if known and not cut else ()
        return Facts(dim=dim, outputs=("global", "texts", *patches, *boxes), files=files, text_settings=TEXT_SETTINGS)

    def _crops(self, folder: Path, by_default: bool) -> bool:
        """Tell whether the processor cuts borders away, so that patches would not cover the picture."""
        if self.squeeze or self.image_size is not None:
            return False
        ways = picture_settings(lambda name: read_if_there(folder / name))
        return bool(ways and ways.get("do_center_crop", by_default))


def local_folder(model: str) -> Path | None:
    """Return the folder that a setting names, None for a name on the hub."""
    path = user_path(model)
    return path if path.is_dir() or model.startswith((".", "/", "~")) else None


def type_of(name: str) -> str | None:
    """Return the ``model_type`` of a model in a folder or in the hub's cache, None where it is not here or says
    nothing."""
    folder = library_model(name, local_folder(name), None, SETTINGS).here()
    if folder is None or not (folder / "config.json").is_file():
        return None
    try:
        kind = read_settings(folder / "config.json").get("model_type")
    except CheckpointError:  # who loads it is told
        return None
    return str(kind) if kind is not None else None


def has_template(folder: Path) -> bool:
    """Tell whether settings in a folder have the template of conversations in them, in place of a file of its own."""
    for name in ("processor_config.json", "tokenizer_config.json"):
        try:
            if (folder / name).is_file() and read_settings(folder / name).get("chat_template"):
                return True
        except CheckpointError:  # who loads it is told
            continue
    return False


def read_if_there(path: Path) -> dict[str, Any]:
    """Return settings, {} where there is no file; raises CheckpointError that names one which cannot be read."""
    return read_settings(path) if path.is_file() else {}


def picture_settings(read: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """Return the settings of a model's image processor, {} where there are none: in a file of their own, or in that of
    a processor of pictures and texts together, which the library reads first.

    Args:
        read: returns a file's settings by its name in the model's folder, {} where there is no such file.
    """
    nested = read("processor_config.json").get("image_processor")
    return nested if isinstance(nested, dict) else read("preprocessor_config.json")


def _of_another(name: str) -> bool:
    """Tell whether a folder, or the hub's cache, holds a model as another library saves it."""
    here = library_model(name, local_folder(name), None, *_OTHERS).here()
    return here is not None and any(part.found(here) is not None for part in _OTHERS)


def refuse_fg_clip(settings: Mapping[str, Any], source: str) -> None:
    """Raise CheckpointError for the settings of an FG-CLIP: the library runs code from its folder, or takes it for a
    CLIP, whose dense features are others."""
    listed = settings.get("architectures")
    names = [str(settings.get("model_type")), *map(str, listed if isinstance(listed, list) else ())]
    if any("fgclip" in name.lower().replace("_", "") for name in names):
        raise CheckpointError(
            f"{source}: is an FG-CLIP; take encoder {{name: fg_clip, model: ...}}, which needs no code of it"
        )


def no_boxes(name: str, kind: str | None, *, cut: bool) -> str:
    """Return why a model cannot pool boxes: its processor cuts the borders away, or it is of an unknown kind."""
    why = "its processor cuts the borders away; set squeeze: true" if cut else f"a {kind!r} model has none"
    return f"regions: roi pools patch features of whole pictures, and of {name} there are none: {why}"
