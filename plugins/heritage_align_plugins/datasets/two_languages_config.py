"""Settings of data sets with captions and their translations."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from heritage_align_plugins.datasets.config import ENCODING, Encoding, _DatasetConfig

_ONLY = "take captions in this language alone, for example to evaluate with; by default all"


class ParallelCaptionsConfig(_DatasetConfig):
    """Parallel text files (Multi30K): line k of each is a caption of image k."""

    image_list: Path = Field(description="file with an image a line, a path relative to images")
    images: Path = Field(description="folder of the pictures")
    prefix: str | None = Field(
        None, description="beginning of the pictures' paths that stands for that folder, for example D:\\\\museum"
    )
    captions: dict[str, tuple[Path, ...]] = Field(
        min_length=1, description="language: its files, as many for every language, {en: [train.en], de: [train.de]}"
    )
    language: str | None = Field(None, description=_ONLY)
    encoding: Encoding = Field(None, description=ENCODING)
    require_pictures: bool = Field(True, description="refuse a list none of whose pictures is there")

    @model_validator(mode="after")
    def _language_is_there(self) -> ParallelCaptionsConfig:
        if self.language is not None and self.language not in self.captions:
            raise ValueError(f"language: {self.language!r} is not among captions ({', '.join(self.captions)})")
        return self

    def _paths(self) -> dict[str, Path | None]:
        texts = {f"captions.{key}.{k}": path for key, paths in self.captions.items() for k, path in enumerate(paths)}
        return {"image_list": self.image_list, "images": self.images if self.require_pictures else None, **texts}


class TranslatedCaptionsConfig(_DatasetConfig):
    """A caption file and the file of its translations (MSCOCO and Multi30K as NRCCR distributes them)."""

    source: Path = Field(description="human captions: image#enc#0 caption")
    target: Path = Field(description="their translations: image#enc2zh#0 caption")
    images: Path = Field(description="folder below which the pictures are, named by their image's key")
    source_language: str = Field("en", min_length=1, description="language of source")
    target_language: str = Field("zh", min_length=1, description="language of target")
    split_list: Path | None = Field(None, description="file with an image key a line; by default all images")
    language: str | None = Field(None, description=_ONLY)
    encoding: Encoding = Field(None, description=ENCODING)
    require_pictures: bool = Field(True, description="refuse captions none of whose pictures is there")

    def _paths(self) -> dict[str, Path | None]:
        images = self.images if self.require_pictures else None
        return {"source": self.source, "target": self.target, "images": images, "split_list": self.split_list}


class VatexConfig(_DatasetConfig):
    """VATEX: videos with English and Chinese captions; their frame features come from a proposer."""

    file: Path = Field(description="vatex_training_v1.0.json or another of its files")
    translations: Path | None = Field(
        None, description="a machine's Chinese (videoID#enc2zh#0 caption) in the place of the file's own"
    )
    parallel_only: bool = Field(False, description="take captions 5 to 9, which people translated, and no other")
    language: str | None = Field(None, description=_ONLY)
    encoding: Encoding = Field(None, description=ENCODING)

    def _paths(self) -> dict[str, Path | None]:
        return {"file": self.file, "translations": self.translations}
