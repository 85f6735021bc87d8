"""Settings of the open_clip encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import Field

from heritage_align.plugin import CheckpointError, ComponentConfig, Facts
from heritage_align_plugins.transformers.config import local_folder

SETTINGS_FILE = "open_clip_config.json"


class OpenClipConfig(ComponentConfig):
    """A model of the zoo, its weights, and how pictures are fed to it."""

    model: str = Field(
        min_length=1,
        description="name in open_clip's zoo (ViT-B-16-SigLIP2), a folder with open_clip_config.json, or the name of "
        "such a repository on the Hugging Face hub that is in its cache",
    )
    pretrained: str | None = Field(
        None,
        min_length=1,
        description="of a model of the zoo: tag of its weights (webli, laion2b_s34b_b79k), which must be in the cache, "
        "or a file; a folder has its own",
    )
    revision: str | None = Field(None, description="branch, tag or commit on the hub; a commit pins the files")
    squeeze: bool = Field(
        False,
        description="squeeze the whole picture to the model's square; otherwise the model's own way, and CLIP's crops "
        "the borders away, which leaves no patch features",
    )

    def folder(self) -> Path | None:
        """Return the local folder, None for a name."""
        return local_folder(self.model)

    def facts(self) -> Facts:
        """Return what the folder says; of a name nothing is known before the library is asked.

        Raises:
            CheckpointError: the folder's settings cannot be read.
        """
        folder = self.folder()
        weights = Path(self.pretrained).expanduser() if self.pretrained else None
        named = weights is not None and self.pretrained is not None and self.pretrained.startswith((".", "/", "~"))
        files = {"pretrained": weights} if named and weights is not None else {}
        if folder is None:
            return Facts(files=files)
        files["model"] = folder / SETTINGS_FILE
        if not files["model"].is_file():
            return Facts(files=files)
        settings, ways = read_settings(files["model"])
        dim = settings.get("embed_dim")
        whole = self.squeeze or ways.get("resize_mode") == "squash"
        patches = ("patches",) if whole and _has_patches(settings.get("vision_cfg")) else ()
        return Facts(dim=dim if isinstance(dim, int) else None, outputs=("global", "texts", *patches), files=files)


def _has_patches(tower: Any) -> bool:
    """Tell whether an image tower is a ViT that pools in a way which can be shown one patch."""
    if not isinstance(tower, dict):
        return False
    if "timm_model_name" in tower:
        return str(tower["timm_model_name"]).startswith(("vit_", "eva", "test_vit"))
    return isinstance(tower.get("layers"), int) and not tower.get("attentional_pool")


def read_settings(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a model's settings and its ways with pictures; raises CheckpointError that names a file without them."""
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot read the model's settings: {error}") from error
    found = settings.get("model_cfg") if isinstance(settings, dict) else None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: has no model_cfg: it is no folder of open_clip")
    ways = settings.get("preprocess_cfg")
    return found, ways if isinstance(ways, dict) else {}
