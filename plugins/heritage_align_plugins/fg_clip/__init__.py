"""FG-CLIP (Xie et al. 2025) and FG-CLIP 2, trained on pairs of regions and phrases; the second reads Chinese too."""

from __future__ import annotations

from heritage_align.plugin import ComponentSpec, hookimpl


@hookimpl
def heritage_align_components() -> list[ComponentSpec]:
    """Return the encoder."""
    return [
        ComponentSpec(
            kind="encoder",
            name="fg_clip",
            target="heritage_align_plugins.fg_clip.encoder:FgClipEncoder",
            config="heritage_align_plugins.fg_clip.config:FgClipConfig",
            summary="FG-CLIP and FG-CLIP 2: pictures, patches and boxes of one forward pass; short, long and box texts",
            outputs=("global", "texts", "patches"),
            requires=("transformers",),
            install="pip install 'heritage-align[transformers]'",
        )
    ]
