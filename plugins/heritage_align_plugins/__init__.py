"""First-party plugins: they use the public API alone and register through the same door as anybody else's."""

PLUGINS = (
    "cn_clip",
    "contrastive",
    "transformers",
    "fg_clip",
    "bert",
    "grids",
    "crops",
    "faster_rcnn",
    "region_features",
    "encoded",
    "augmented",
    "alignment",
    "cl2cm",
    "sift",
    "focal",
    "fragments",
    "similarities",
    "exact_index",
    "datasets",
    "motifs",
)
"""In the order in which they register and are listed."""
