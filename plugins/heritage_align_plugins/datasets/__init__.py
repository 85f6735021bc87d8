"""Data sets: Chinese-CLIP's form, Karpathy's, caption files, artworks with golden pairs, tables, plain
folders."""

from __future__ import annotations

from heritage_align.plugin import ComponentSpec, hookimpl

_HERE = "heritage_align_plugins.datasets"


def _spec(name: str, class_name: str, summary: str, role: str = "") -> ComponentSpec:
    return ComponentSpec(
        "dataset",
        name,
        target=f"{_HERE}.readers:{class_name}Dataset",
        config=f"{_HERE}.config:{class_name}Config",
        summary=summary,
        role=role,
    )


def _translated(name: str, class_name: str, summary: str) -> ComponentSpec:
    return ComponentSpec(
        "dataset",
        name,
        target=f"{_HERE}.two_languages:{class_name}Dataset",
        config=f"{_HERE}.two_languages_config:{class_name}Config",
        summary=summary,
    )


@hookimpl
def heritage_align_components() -> list[ComponentSpec]:
    """Register a reader for each form in which the field's data sets come."""
    return [
        _spec("chinese_clip", "ChineseClip", "{split}_texts.jsonl with a TSV, an LMDB or a folder of pictures"),
        _spec(
            "karpathy",
            "Karpathy",
            "Karpathy's split JSON of COCO and Flickr30K, with other captions on request",
        ),
        _spec("captions", "Captions", "caption files and split lists of Flickr30K-CN and COCO-CN"),
        _spec(
            "artwork_pairs",
            "ArtworkPairs",
            "artworks with descriptions, boxes and the phrases that name them",
        ),
        _spec(
            "precomp",
            "Precomputed",
            "VSE++, SCAN and BFAN: {split}_ims.npy and {split}_caps.txt",
            role="precomputed",
        ),
        _spec("iiif", "Iiif", "manifests and collections of IIIF: canvases, labels, metadata", role="manifest"),
        _spec("table", "Table", "a CSV or JSON Lines of picture paths and texts, columns of any name", role="pairs"),
        ComponentSpec(
            "dataset",
            "fold",
            target=f"{_HERE}.derived:FoldDataset",
            config=f"{_HERE}.config:FoldConfig",
            summary="train, val or test part of one fold of another data set, by artwork",
            role="part",
        ),
        ComponentSpec(
            "dataset",
            "union",
            target=f"{_HERE}.derived:UnionDataset",
            config=f"{_HERE}.config:UnionConfig",
            summary="several data sets as one",
        ),
        ComponentSpec(
            "dataset",
            "details",
            target=f"{_HERE}.derived:DetailsDataset",
            config=f"{_HERE}.config:DetailsConfig",
            summary="details around another data set's golden regions, with the phrases of what they show",
        ),
        ComponentSpec(
            "dataset",
            "cropped",
            target=f"{_HERE}.derived:CroppedDataset",
            config=f"{_HERE}.config:CroppedConfig",
            summary="random crops of another data set's pictures, with the texts of the whole pictures",
        ),
        _spec("folder", "Folder", "a folder of pictures without texts", role="pictures"),
        _translated("parallel_captions", "ParallelCaptions", "Multi30K: an image list and a text file a language"),
        _translated("translated_captions", "TranslatedCaptions", "a caption file and a machine's translations of it"),
        _translated("vatex", "Vatex", "VATEX's captions in two languages; the videos as features of a proposer"),
    ]
