"""Models of the transformers library that encode images and texts: Chinese-CLIP, CLIP, SigLIP, SigLIP 2."""

from __future__ import annotations

from heritage_align.plugin import ComponentSpec, hookimpl


@hookimpl
def heritage_align_components() -> list[ComponentSpec]:
    """Return the encoder."""
    return [
        ComponentSpec(
            kind="encoder",
            name="transformers",
            target="heritage_align_plugins.transformers.encoder:TransformersEncoder",
            config="heritage_align_plugins.transformers.config:TransformersConfig",
            summary="ChineseCLIPModel, CLIP, SigLIP and SigLIP 2 from a folder or the Hugging Face hub",
            outputs=("global", "texts", "patches"),
            requires=("transformers",),
            install="pip install 'heritage-align[transformers]'",
        )
    ]
