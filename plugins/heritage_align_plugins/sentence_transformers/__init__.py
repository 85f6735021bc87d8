"""Models of the sentence-transformers library: whole pictures, token vectors for late interaction, cross-encoders."""

from __future__ import annotations

from heritage_align.plugin import ComponentSpec, hookimpl

_HERE = "heritage_align_plugins.sentence_transformers"
_REQUIRES = ("sentence_transformers",)
_INSTALL = "pip install 'heritage-align[sentence-transformers]'"


@hookimpl
def heritage_align_components() -> list[ComponentSpec]:
    """Return the encoders, what gives their token vectors on both sides, and the reranker."""
    return [
        ComponentSpec(
            kind="encoder",
            name="sentence_transformers",
            target=f"{_HERE}.whole:SentenceTransformersEncoder",
            config=f"{_HERE}.config:WholeConfig",
            summary="any SentenceTransformer with pictures, one vector each (Qwen3-VL-Embedding and its like)",
            outputs=("global", "texts"),
            requires=_REQUIRES,
            install=_INSTALL,
        ),
        ComponentSpec(
            kind="encoder",
            name="multi_vector",
            target=f"{_HERE}.multi_vector:MultiVector",
            config=f"{_HERE}.config:MultiVectorConfig",
            summary="any MultiVectorEncoder with pictures, one vector a token (ColPali, ColQwen and their like)",
            outputs=("global", "texts", "features"),
            requires=_REQUIRES,
            install=_INSTALL,
        ),
        ComponentSpec(
            kind="proposer",
            name="multi_vector",
            target=f"{_HERE}.tokens:PictureTokens",
            config=f"{_HERE}.config:PictureTokensConfig",
            summary="the token vectors of a picture, as encoder multi_vector gives them",
            outputs=("features",),
            requires=_REQUIRES,
            install=_INSTALL,
        ),
        ComponentSpec(
            kind="fragmenter",
            name="multi_vector",
            target=f"{_HERE}.tokens:QueryTokens",
            config=f"{_HERE}.config:QueryTokensConfig",
            summary="the tokens of a query, as encoder multi_vector scores them",
            outputs=("fragments",),
            requires=_REQUIRES,
            install=_INSTALL,
        ),
        ComponentSpec(
            kind="reranker",
            name="cross_encoder",
            target=f"{_HERE}.cross_encoder:CrossEncoderReranker",
            config=f"{_HERE}.config:CrossEncoderConfig",
            summary="any CrossEncoder that takes a text and a picture (Qwen3-VL-Reranker and its like)",
            outputs=("texts",),
            requires=_REQUIRES,
            install=_INSTALL,
        ),
    ]
