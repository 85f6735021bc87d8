"""Split texts into fragments: annotated phrases, noun phrases, single words, or what punctuation separates."""

from __future__ import annotations

from heritage_align.plugin import ComponentSpec, hookimpl


@hookimpl
def heritage_align_components() -> list[ComponentSpec]:
    """Return the fragmenters."""
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
        ComponentSpec(
            kind="fragmenter",
            name="noun_phrases",
            target="heritage_align_plugins.fragments.phrases:NounPhraseFragmenter",
            config="heritage_align_plugins.fragments.config:NounPhrasesConfig",
            summary="noun phrases of a part-of-speech grammar (NPFST), overlapping ones too",
            outputs=("fragments",),
        ),
        ComponentSpec(
            kind="fragmenter",
            name="nouns",
            target="heritage_align_plugins.fragments.single_words:NounFragmenter",
            config="heritage_align_plugins.fragments.config:NounsConfig",
            summary="the nouns of a text",
            outputs=("fragments",),
        ),
        ComponentSpec(
            kind="fragmenter",
            name="tokens",
            target="heritage_align_plugins.fragments.single_words:TokenFragmenter",
            config="heritage_align_plugins.fragments.config:TokensConfig",
            summary="the words of a text without stop words, or Chinese characters",
            outputs=("fragments",),
        ),
    ]
