"""First-party plugins: they use the public API alone and register through the same door as anybody else's."""

PLUGINS = (
    "cn_clip",
    "contrastive",
    "transformers",
    "fg_clip",
    "bert",
    "grids",
    "crops",
    "faiss_index",
    "faster_rcnn",
    "qdrant_index",
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
    "local_executor",
    "ray_executor",
    "datasets",
    "motifs",
)
"""In the order in which they register and are listed."""
