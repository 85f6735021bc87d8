"""Which files count as pictures, and how large one may be; imports nothing, so that settings can name it."""

from __future__ import annotations

MAX_PIXELS = 89_478_485
"""Default limit of a picture's pixels: 256 MiB of RGB, the size from which Pillow warns of a decompression bomb."""

SUFFIXES = frozenset(
    {
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".webp",
        ".bmp",
        ".gif",
        ".tif",
        ".tiff",
        ".avif",
        ".heic",
        ".heif",
        ".hif",
    }
    | {".jp2", ".jpx", ".jpf", ".j2k", ".j2c", ".jpc", ".ppm", ".pgm", ".pbm", ".pnm"}
)
"""File name endings, in lower case, that count as a picture where a folder is listed."""

RAW_SUFFIXES = frozenset(
    {".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".iiq", ".kdc", ".mef", ".mos", ".mrw"}
    | {".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"}
)
"""Endings of cameras' RAW files, in lower case: what Pillow finds in them is a thumbnail."""

OTHER_SUFFIXES = frozenset(
    {".psd", ".psb", ".ai", ".eps", ".svg", ".pdf", ".djvu", ".dcm", ".exr", ".hdr", ".jxl"}
    | {".tga", ".pcx", ".pct", ".pict", ".xcf", ".jxr", ".wdp", ".hdp", ".fits", ".svs", ".ndpi", ".mrxs", ".indd"}
)
"""Endings, in lower case, of pictures in forms that are not read."""
