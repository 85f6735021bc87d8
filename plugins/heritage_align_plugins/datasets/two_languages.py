"""Data sets with captions and their translations, built from a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heritage_align.data import Collection, read_parallel_captions, read_translated_captions, read_vatex
from heritage_align.plugin import BuildContext, DataError
from heritage_align_plugins.datasets.readers import _Read

if TYPE_CHECKING:
    from heritage_align_plugins.datasets import two_languages_config as settings


class _TwoLanguages(_Read):
    """A data set that hands on what its reader returned, or its captions in one language."""

    def __init__(self, collection: Collection, language: str | None, max_pixels: int) -> None:
        super().__init__(collection, max_pixels)
        if language is not None:
            self.texts = tuple(item for item in collection.texts if item.language == language)
            if not self.texts:
                there = ", ".join(sorted({repr(item.language) for item in collection.texts}))
                raise DataError(f"{self.name}: has no caption in {language!r}, only in {there}")


class ParallelCaptionsDataset(_TwoLanguages):
    """`heritage_align.data.read_parallel_captions` by configuration."""

    def __init__(self, config: settings.ParallelCaptionsConfig, context: BuildContext) -> None:
        collection = read_parallel_captions(
            config.image_list,
            config.images,
            config.captions,
            prefix=config.prefix,
            name=config.title,
            require_pictures=config.require_pictures,
            encoding=config.encoding,
        )
        super().__init__(collection, config.language, config.max_pixels)


class TranslatedCaptionsDataset(_TwoLanguages):
    """`heritage_align.data.read_translated_captions` by configuration."""

    def __init__(self, config: settings.TranslatedCaptionsConfig, context: BuildContext) -> None:
        collection = read_translated_captions(
            config.source,
            config.target,
            config.images,
            source_language=config.source_language,
            target_language=config.target_language,
            split=config.split_list,
            name=config.title,
            require_pictures=config.require_pictures,
            encoding=config.encoding,
        )
        super().__init__(collection, config.language, config.max_pixels)


class VatexDataset(_TwoLanguages):
    """`heritage_align.data.read_vatex` by configuration."""

    def __init__(self, config: settings.VatexConfig, context: BuildContext) -> None:
        collection = read_vatex(
            config.file,
            translations=config.translations,
            parallel_only=config.parallel_only,
            name=config.title,
            encoding=config.encoding,
        )
        super().__init__(collection, config.language, config.max_pixels)
