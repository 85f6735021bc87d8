"""The alignment system of Sheng et al. 2021: trained on frozen region features, scored by attention."""

from __future__ import annotations

from heritage_align.plugin import ComponentSpec, hookimpl

_HERE = "heritage_align_plugins.alignment"


@hookimpl
def heritage_align_components() -> list[ComponentSpec]:
    """Register the encoders, the trainers and DeepFrag's similarity."""
    return [
        ComponentSpec(
            "encoder",
            "alignment",
            target=f"{_HERE}.encoder:AlignmentEncoder",
            config=f"{_HERE}.config:AlignmentConfig",
            summary="a trained alignment model over region features or over another encoder",
            outputs=("global", "texts", "features"),
        ),
        ComponentSpec(
            "encoder",
            "region_features",
            target=f"{_HERE}.encoder:RegionFeatureEncoder",
            config=f"{_HERE}.config:RegionFeatureEncoderConfig",
            summary="a proposer's region features as they are, to train on; knows no texts",
            outputs=("global", "features"),
            role="features",
        ),
        ComponentSpec(
            "trainer",
            "alignment",
            target=f"{_HERE}.trainer:AlignmentTrainer",
            config=f"{_HERE}.config:AlignmentTrainerConfig",
            summary="projections and text model by the hinge losses of Sheng et al. 2021, SCAN, BFAN, DeepFrag",
        ),
        ComponentSpec(
            "trainer",
            "cca",
            target=f"{_HERE}.cca_trainer:CcaTrainer",
            config=f"{_HERE}.config:CcaTrainerConfig",
            summary="regularised CCA of whole-image features and TF-IDF bags, the linear baseline",
        ),
        ComponentSpec(
            "similarity",
            "deepfrag",
            target=f"{_HERE}.deepfrag:DeepFragSimilarity",
            config=f"{_HERE}.config:DeepFragConfig",
            summary="sum over all region-fragment pairs, the baseline without attention",
            inputs=("image.regions", "text.fragments", "keep?"),
        ),
    ]
