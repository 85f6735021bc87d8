"""IIIF: manifests and collections (Presentation 2 and 3), their pictures by the Image API 1.1 to 3, level 0 too."""

from heritage_align.data.iiif.reader import IiifCollection, read_iiif

__all__ = ["IiifCollection", "read_iiif"]
