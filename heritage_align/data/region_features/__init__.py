"""Region features that a detector computed before: read from a file, chosen by image id, written again.

    features = read_region_features("region_features.safetensors")
    chosen = features.select(["images/1.jpg", "images/2.jpg"], count=10)
    chosen.values, chosen.offsets, chosen.global_features       # numpy arrays

What is read: `.safetensors` (`safetensors_file`), the TSV files of bottom-up attention (`bottom_up`), `.npz`, one file
(`npz`) or one an image (`npz_folder`), and a store of this library (`from_store`). Reading one and writing it with
`write_region_features` converts it; `features_of_regions` takes what a proposer just found.
"""

from heritage_align.data.region_features.features import RegionFeatures
from heritage_align.data.region_features.from_regions import features_of_regions
from heritage_align.data.region_features.reading import feature_dim, read_region_features
from heritage_align.data.region_features.safetensors_file import write_region_features

__all__ = ["RegionFeatures", "feature_dim", "features_of_regions", "read_region_features", "write_region_features"]
