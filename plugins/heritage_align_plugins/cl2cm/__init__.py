"""Cross-lingual to cross-modal transfer after CL2CM (Wang et al. 2024): texts of a language that has only translations.

The paper publishes neither equations nor code; what is here is our reconstruction from its abstract and from public
code of the same authors and neighbours. Every part that is ours says so.
"""

from __future__ import annotations

from heritage_align.plugin import ComponentSpec, hookimpl

_HERE = "heritage_align_plugins.cl2cm"


@hookimpl
def heritage_align_components() -> list[ComponentSpec]:
    """Return the trainer and the encoder that it makes."""
    return [
        ComponentSpec(
            kind="encoder",
            name="cl2cm",
            target=f"{_HERE}.encoder:Cl2cmEncoder",
            config=f"{_HERE}.config:Cl2cmConfig",
            summary="a text encoder learned from translated captions, on frozen image vectors or frame features",
            outputs=("global", "texts"),
        ),
        ComponentSpec(
            kind="trainer",
            name="cl2cm",
            target=f"{_HERE}.trainer:Cl2cmTrainer",
            config=f"{_HERE}.config:Cl2cmTrainerConfig",
            summary="cross-lingual teacher, then a cross-modal student; baselines without teacher and with triplets",
        ),
    ]
