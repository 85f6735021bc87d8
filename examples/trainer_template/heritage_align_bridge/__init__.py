"""Describes the trainer and the encoder that it makes; what they run is imported when they are built."""

from __future__ import annotations

from heritage_align.plugin import ComponentSpec, hookimpl

_HERE = "heritage_align_bridge"


@hookimpl
def heritage_align_components() -> list[ComponentSpec]:
    """Return both."""
    return [
        ComponentSpec(
            kind="trainer",
            name="bridge",
            target=f"{_HERE}.trainer:BridgeTrainer",
            config=f"{_HERE}.config:BridgeTrainerConfig",
            summary="a matrix between the image and the text vectors of a frozen encoder",
        ),
        ComponentSpec(
            kind="encoder",
            name="bridge",
            target=f"{_HERE}.encoder:BridgeEncoder",
            config=f"{_HERE}.config:BridgeConfig",
            summary="a frozen encoder whose image vectors pass a trained matrix",
            outputs=("global", "texts"),
        ),
    ]
