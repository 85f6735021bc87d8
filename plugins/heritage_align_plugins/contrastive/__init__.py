"""Contrastive training of Chinese-CLIP models: fine-tuning, two stages (CE-CLIP), locked-image tuning (CRA)."""

from __future__ import annotations

from heritage_align.plugin import ComponentSpec, hookimpl


@hookimpl
def heritage_align_components() -> list[ComponentSpec]:
    """Return the trainer."""
    return [
        ComponentSpec(
            kind="trainer",
            name="contrastive",
            target="heritage_align_plugins.contrastive.trainer:ContrastiveTrainer",
            config="heritage_align_plugins.contrastive.config:ContrastiveConfig",
            summary="fine-tunes a cn_clip encoder with image-text contrast, in stages with frozen parts",
            requires=("cn_clip",),
            install="pip install cn_clip",
        )
    ]
