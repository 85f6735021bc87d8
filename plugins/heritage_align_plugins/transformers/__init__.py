"""Models of the transformers library: Chinese-CLIP, CLIP, SigLIP and SigLIP 2 as encoder, vision-language models as a
last look."""

from __future__ import annotations

from heritage_align.plugin import ComponentSpec, hookimpl


@hookimpl
def heritage_align_components() -> list[ComponentSpec]:
    """Return the encoder and the reranker."""
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
        ),
        ComponentSpec(
            kind="reranker",
            name="yes_no",
            target="heritage_align_plugins.transformers.yes_no:YesNo",
            config="heritage_align_plugins.transformers.yes_no_config:YesNoConfig",
            summary="a vision-language model that is asked whether a picture shows a text (Qwen-VL and its like)",
            outputs=("texts",),
            requires=("transformers",),
            install="pip install 'heritage-align[transformers]'",
        ),
    ]
