"""Readers of pictures, captions and region features, and data sets made of other data sets.

>>> from heritage_align.data import Motifs, Subset
>>> motifs = Motifs("test", artworks=2, variants=2)
>>> part = Subset(motifs, motifs.image_ids[:1], "one picture")
>>> len(motifs.image_ids), len(part.image_ids)
(4, 1)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = [
    "MAX_PIXELS",
    "Augmentation",
    "Boxes",
    "CaptionPair",
    "Collection",
    "Columns",
    "Cropped",
    "Details",
    "IiifCollection",
    "Motifs",
    "RegionFeatures",
    "Subset",
    "Union",
    "areas",
    "artworks",
    "augment_image",
    "common_areas",
    "feature_dim",
    "features_of_regions",
    "load_image",
    "pair_captions",
    "read_artwork_pairs",
    "read_captions",
    "read_chinese_clip",
    "read_folder",
    "read_frame_features",
    "read_iiif",
    "read_karpathy",
    "read_parallel_captions",
    "read_precomputed",
    "read_region_features",
    "read_table",
    "read_translated_captions",
    "read_vatex",
    "union_parts",
    "with_copies",
    "write_region_features",
]

if TYPE_CHECKING:
    from heritage_align.data.artwork_pairs import read_artwork_pairs
    from heritage_align.data.augment import Augmentation, augment_image
    from heritage_align.data.boxes import Boxes, areas, common_areas
    from heritage_align.data.captions import read_captions
    from heritage_align.data.chinese_clip import read_chinese_clip
    from heritage_align.data.collection import Collection
    from heritage_align.data.cropped import Cropped
    from heritage_align.data.details import Details
    from heritage_align.data.folder import read_folder
    from heritage_align.data.frame_features import read_frame_features
    from heritage_align.data.iiif import IiifCollection, read_iiif
    from heritage_align.data.images import load_image
    from heritage_align.data.karpathy import read_karpathy
    from heritage_align.data.limits import MAX_PIXELS
    from heritage_align.data.motifs import Motifs
    from heritage_align.data.parallel_captions import read_parallel_captions
    from heritage_align.data.precomputed import read_precomputed
    from heritage_align.data.region_copies import with_copies
    from heritage_align.data.region_features import (
        RegionFeatures,
        feature_dim,
        features_of_regions,
        read_region_features,
        write_region_features,
    )
    from heritage_align.data.subset import Subset, artworks
    from heritage_align.data.table import Columns, read_table
    from heritage_align.data.translated_captions import read_translated_captions
    from heritage_align.data.two_languages import CaptionPair, pair_captions
    from heritage_align.data.union import Union, union_parts
    from heritage_align.data.vatex import read_vatex

_PLACES = {
    "heritage_align.data.artwork_pairs": ("read_artwork_pairs",),
    "heritage_align.data.augment": ("Augmentation", "augment_image"),
    "heritage_align.data.boxes": ("Boxes", "areas", "common_areas"),
    "heritage_align.data.captions": ("read_captions",),
    "heritage_align.data.chinese_clip": ("read_chinese_clip",),
    "heritage_align.data.collection": ("Collection",),
    "heritage_align.data.cropped": ("Cropped",),
    "heritage_align.data.details": ("Details",),
    "heritage_align.data.folder": ("read_folder",),
    "heritage_align.data.frame_features": ("read_frame_features",),
    "heritage_align.data.iiif": ("IiifCollection", "read_iiif"),
    "heritage_align.data.images": ("load_image",),
    "heritage_align.data.karpathy": ("read_karpathy",),
    "heritage_align.data.limits": ("MAX_PIXELS",),
    "heritage_align.data.motifs": ("Motifs",),
    "heritage_align.data.parallel_captions": ("read_parallel_captions",),
    "heritage_align.data.precomputed": ("read_precomputed",),
    "heritage_align.data.region_copies": ("with_copies",),
    "heritage_align.data.region_features": (
        "RegionFeatures",
        "feature_dim",
        "features_of_regions",
        "read_region_features",
        "write_region_features",
    ),
    "heritage_align.data.subset": ("Subset", "artworks"),
    "heritage_align.data.table": ("Columns", "read_table"),
    "heritage_align.data.translated_captions": ("read_translated_captions",),
    "heritage_align.data.two_languages": ("CaptionPair", "pair_captions"),
    "heritage_align.data.union": ("Union", "union_parts"),
    "heritage_align.data.vatex": ("read_vatex",),
}


if not TYPE_CHECKING:  # a checker would take any name from a module with __getattr__

    def __getattr__(name: str) -> Any:
        from heritage_align.exports import look_up

        return look_up(__name__, name, _PLACES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
