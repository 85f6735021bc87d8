"""Split texts into fragments: annotated phrases, or the pieces between punctuation marks and connectives."""

from __future__ import annotations

from heritage_align.hookspecs import ComponentSpec, hookimpl


@hookimpl
def heritage_align_components() -> list[ComponentSpec]:
    """Return both fragmenters."""
    return [
        ComponentSpec(
            kind="fragmenter",
            name="annotated",
            target="heritage_align_plugins.fragments.annotated:AnnotatedFragmenter",
            config="heritage_align_plugins.fragments.config:AnnotatedConfig",
            summary="the data set's own phrases; punctuation where a text has none",
            outputs=("fragments",),
        ),
        ComponentSpec(
            kind="fragmenter",
            name="punctuation",
            target="heritage_align_plugins.fragments.punctuation:PunctuationFragmenter",
            config="heritage_align_plugins.fragments.config:PunctuationConfig",
            summary="splits Chinese and English at punctuation, brackets and connectives",
            outputs=("fragments",),
        ),
    ]
