"""Settings of the open_clip encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from heritage_align.plugin import (
    CheckpointError,
    ComponentConfig,
    ConfigError,
    Facts,
    ModelSource,
    read_settings,
    user_path,
)
from heritage_align_plugins.open_clip.files import PARTS, SETTINGS_FILE, text_sources
from heritage_align_plugins.transformers.config import local_folder
from heritage_align_plugins.transformers.files import TOKENIZER, TOKENIZER_SETTINGS, is_name, library_model

_HUB, _FOLDER = "hf-hub:", "local-dir:"


class OpenClipConfig(ComponentConfig):
    """A model of the zoo, its weights, and how pictures are fed to it."""

    model: str = Field(
        min_length=1,
        description="name in open_clip's zoo (ViT-B-16-SigLIP2), a folder with open_clip_config.json, or the name of "
        "such a repository on the Hugging Face hub that is in its cache; the library's local-dir: and hf-hub: may "
        "stand before the last two",
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
        if self.model.startswith(_FOLDER):
            return user_path(self.model.removeprefix(_FOLDER))
        return None if self.model.startswith(_HUB) else local_folder(self.model)

    def repository(self) -> str | None:
        """Return the name on the hub, None for a folder and for a name of the zoo."""
        if self.folder() is not None or ("/" not in self.model and not self.model.startswith(_HUB)):
            return None
        return self.model.removeprefix(_HUB)

    def models(self) -> tuple[ModelSource, ...]:
        """Return the model's files, those of a tokenizer and of a text tower's settings that it takes from elsewhere
        among them.

        Raises:
            CheckpointError: the zoo has no such name, tag or file; settings that are here cannot be read.
        """
        folder, repository = self.folder(), self.repository()
        if folder is None and repository is None:
            # Not above: importing the library takes seconds, and it is asked for names of its zoo alone.
            from heritage_align_plugins.open_clip.zoo import sources

            return sources(self.model, self.pretrained, self.revision)
        own = library_model(str(folder) if repository is None else repository, folder, self.revision, *PARTS)
        here = own.here()
        if here is None or not (here / SETTINGS_FILE).is_file():
            return (own,)
        settings, _ = settings_of(here / SETTINGS_FILE)
        text = settings.get("text_cfg")
        named = isinstance(text, dict) and text.get("hf_tokenizer_name")
        parts = (*PARTS, TOKENIZER, TOKENIZER_SETTINGS) if named else PARTS
        return (library_model(own.name, folder, self.revision, *parts), *text_sources(settings, tokenizer=False))

    @classmethod
    def for_model(cls, name: str) -> OpenClipConfig | None:
        """Return the settings that read a folder or repository with open_clip_config.json, or a name of the zoo with
        its weights, as the library writes it: ``ViT-B-32:openai``.

        Raises:
            ConfigError: a name of the zoo without weights, or weights of a name that it does not have.
        """
        if name.startswith((_HUB, _FOLDER)):
            return cls(model=name) if is_name(name.partition(":")[2]) else None
        if is_name(name) or "/" in name.partition(":")[0]:
            here = library_model(name, local_folder(name), None, PARTS[0]).here() if is_name(name) else None
            return cls(model=name) if here is not None and (here / SETTINGS_FILE).is_file() else None
        from heritage_align_plugins.open_clip import zoo

        model, _, pretrained = name.partition(":")
        if not zoo.is_of_the_zoo(model):
            if pretrained:
                raise ConfigError([zoo.unknown(model)], name)
            return None
        if not pretrained:
            raise ConfigError([f"of open_clip's zoo it {zoo.needs_weights(model)}; name both as {model}:TAG"], name)
        return cls(model=model, pretrained=pretrained)

    def refuse_two_weights(self) -> None:
        """Raise ValueError where weights are named beside a folder or repository, which is read with its own."""
        if self.pretrained is not None and (self.folder() is not None or self.repository() is not None):
            raise ValueError(
                f"pretrained: {self.model} is read with its own weights; name a model of the zoo beside "
                f"{self.pretrained!r}, or leave it out"
            )

    def facts(self) -> Facts:
        """Return what the folder says; of a name nothing is known before the library is asked.

        Raises:
            ValueError: weights are named beside a model that has its own.
            CheckpointError: the folder's settings cannot be read.
        """
        folder = self.folder()
        self.refuse_two_weights()
        weights = user_path(self.pretrained) if self.pretrained else None
        named = weights is not None and self.pretrained is not None and self.pretrained.startswith((".", "/", "~"))
        files = {"pretrained": weights} if named and weights is not None else {}
        if folder is None:
            return Facts(files=files)
        files["model"] = folder / SETTINGS_FILE
        if not files["model"].is_file():
            return Facts(files=files)
        settings, ways = settings_of(files["model"])
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


def settings_of(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a model's settings and its ways with pictures; raises CheckpointError that names a file without them."""
    settings = read_settings(path)
    found = settings.get("model_cfg")
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: has no model_cfg: it is no folder of open_clip")
    ways = settings.get("preprocess_cfg")
    return found, ways if isinstance(ways, dict) else {}
