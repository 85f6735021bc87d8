"""Models of the open_clip library: CLIP and SigLIP in many sizes, trained by many hands."""

from __future__ import annotations

from heritage_align.plugin import ComponentSpec, hookimpl


@hookimpl
def heritage_align_components() -> list[ComponentSpec]:
    """Return the encoder; whether it gives patches depends on the model (see `OpenClipConfig.facts`)."""
    return [
        ComponentSpec(
            kind="encoder",
            name="open_clip",
            target="heritage_align_plugins.open_clip.encoder:OpenClipEncoder",
            config="heritage_align_plugins.open_clip.config:OpenClipConfig",
            summary="every model of open_clip's zoo by name, or a folder as it saves them",
            outputs=("global", "texts", "patches"),
            requires=("open_clip",),
            install="pip install 'heritage-align[open-clip]'",
        )
    ]
