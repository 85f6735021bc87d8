"""Phrases as a BERT sees them, for alignment models that learn their own projection (Sheng et al. 2021)."""

from __future__ import annotations

from heritage_align.plugin import ComponentSpec, hookimpl


@hookimpl
def heritage_align_components() -> list[ComponentSpec]:
    """Return the phrase encoder."""
    return [
        ComponentSpec(
            kind="encoder",
            name="bert",
            target="heritage_align_plugins.bert.encoder:BertEncoder",
            config="heritage_align_plugins.bert.config:BertConfig",
            summary="BERT's second-to-last layer for phrases; texts only",
            outputs=("texts",),
            requires=("transformers",),
            install="pip install 'heritage-align[transformers]'",
        )
    ]
