"""Chinese-CLIP (Yang et al. 2022) in its five sizes, and the small model of the motif collection."""

from __future__ import annotations

from heritage_align.plugin import ComponentSpec, hookimpl


@hookimpl
def heritage_align_components() -> list[ComponentSpec]:
    """Return the encoder."""
    return [
        ComponentSpec(
            kind="encoder",
            name="cn_clip",
            target="heritage_align_plugins.cn_clip.encoder:CnClipEncoder",
            config="heritage_align_plugins.cn_clip.config:CnClipConfig",
            summary="Chinese-CLIP: images and Chinese texts in one space; ViT patch features",
            outputs=("global", "texts", "patches"),
            requires=("cn_clip",),
            install="pip install cn_clip",
        )
    ]
