"""Data sets built from a configuration; what reads them is in `heritage_align.data`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heritage_align.data import (
    Collection,
    Columns,
    read_artwork_pairs,
    read_captions,
    read_chinese_clip,
    read_folder,
    read_iiif,
    read_karpathy,
    read_precomputed,
    read_table,
)
from heritage_align.plugin import BuildContext, ImageFile

if TYPE_CHECKING:
    from PIL.Image import Image

    from heritage_align_plugins.datasets import config as settings


class _Read:
    """A data set that hands on what its reader returned."""

    def __init__(self, collection: Collection, max_pixels: int) -> None:
        collection.max_pixels = max_pixels
        self.name = collection.name
        self.image_ids = collection.image_ids
        self.texts = collection.texts
        self.golden = collection.golden
        self.artwork_of = collection.artwork_of
        self._collection = collection

    def load_image(self, image_id: str) -> Image:
        """Return an upright RGB image; raises ImageError that names the file, DataError for an unknown id."""
        return self._collection.load_image(image_id)

    def image_file(self, image_id: str) -> ImageFile:
        """Return the picture's file or its encoded bytes; raises as `load_image` does, without decoding."""
        return self._collection.image_file(image_id)


class ChineseClipDataset(_Read):
    """`heritage_align.data.read_chinese_clip` by configuration."""

    def __init__(self, config: settings.ChineseClipConfig, context: BuildContext) -> None:
        super().__init__(
            read_chinese_clip(
                config.folder,
                config.split,
                texts=config.texts,
                images=config.images,
                all_pictures=config.all_pictures,
                language=config.language,
                name=config.title,
                encoding=config.encoding,
            ),
            config.max_pixels,
        )


class KarpathyDataset(_Read):
    """`heritage_align.data.read_karpathy` by configuration."""

    def __init__(self, config: settings.KarpathyConfig, context: BuildContext) -> None:
        super().__init__(
            read_karpathy(
                config.file,
                config.images,
                splits=config.splits,
                captions=config.captions,
                language=config.language,
                prefix=config.prefix,
                name=config.title,
                encoding=config.encoding,
            ),
            config.max_pixels,
        )


class CaptionsDataset(_Read):
    """`heritage_align.data.read_captions` by configuration."""

    def __init__(self, config: settings.CaptionsConfig, context: BuildContext) -> None:
        super().__init__(
            read_captions(
                config.file,
                config.images,
                split=config.split_list,
                language=config.language,
                name=config.title,
                encoding=config.encoding,
            ),
            config.max_pixels,
        )


class ArtworkPairsDataset(_Read):
    """`heritage_align.data.read_artwork_pairs` by configuration."""

    def __init__(self, config: settings.ArtworkPairsConfig, context: BuildContext) -> None:
        super().__init__(
            read_artwork_pairs(
                config.file,
                images=config.images,
                prefix=config.prefix,
                split=config.split,
                language=config.language,
                name=config.title,
                encoding=config.encoding,
            ),
            config.max_pixels,
        )


class TableDataset(_Read):
    """`heritage_align.data.read_table` by configuration."""

    def __init__(self, config: settings.TableConfig, context: BuildContext) -> None:
        columns = Columns(
            image=config.image,
            text=config.text,
            id=config.id,
            phrases=config.phrases,
            split=config.split_column,
            language=config.language_column,
            group=config.group,
        )
        super().__init__(
            read_table(
                config.file,
                images=config.images,
                prefix=config.prefix,
                columns=columns,
                split=config.split,
                language=config.language,
                separator=config.separator,
                name=config.title,
                require_pictures=config.require_pictures,
                delimiter=config.delimiter,
                encoding=config.encoding,
            ),
            config.max_pixels,
        )


class PrecomputedDataset(_Read):
    """`heritage_align.data.read_precomputed` by configuration."""

    def __init__(self, config: settings.PrecomputedConfig, context: BuildContext) -> None:
        super().__init__(
            read_precomputed(
                config.folder, config.split, language=config.language, name=config.title, encoding=config.encoding
            ),
            config.max_pixels,
        )


class FolderDataset(_Read):
    """`heritage_align.data.read_folder` by configuration."""

    def __init__(self, config: settings.FolderConfig, context: BuildContext) -> None:
        super().__init__(read_folder(config.folder, name=config.title), config.max_pixels)


class IiifDataset(_Read):
    """`heritage_align.data.read_iiif` by configuration."""

    def __init__(self, config: settings.IiifConfig, context: BuildContext) -> None:
        collection = read_iiif(
            config.manifest,
            allow_network=config.allow_network,
            cache=config.cache,
            side=config.side,
            texts=config.texts,
            language=config.language,
            timeout=config.timeout,
            name=config.title,
        )
        super().__init__(collection, config.max_pixels)
        self.canvas_sizes = collection.canvas_sizes
