"""Settings of the data sets. Relative paths are relative to the folder in which the program runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from heritage_align.data import MAX_PIXELS
from heritage_align.plugin import ComponentConfig, Facts, Kind

ENCODING = "of the text file: utf-8, gb18030, big5, utf-16 ...; by default it is found out, and a guess is said"


def _known(name: str | None) -> str | None:
    try:
        return None if name is None or "".encode(name) is None else name
    except LookupError:
        raise ValueError(f"there is no encoding {name!r}; known are utf-8, gb18030, big5, utf-16 ...") from None


Encoding = Annotated[str | None, AfterValidator(_known)]


class _DatasetConfig(ComponentConfig):
    title: str | None = Field(None, description="name in tables; by default it is made of the file's name")
    max_pixels: int = Field(
        MAX_PIXELS,
        ge=1,
        description="width x height beyond which a picture is decoded at a reduced size, if its format offers one "
        "(JPEG, JPEG 2000, pyramid TIFF), or left out",
    )

    def _paths(self) -> dict[str, Path | None]:
        """Return key -> file or folder that must exist, None where it is not set."""
        return {}

    def facts(self) -> Facts:
        """Let the planner look for the files before a model loads."""
        return Facts(files={key: path for key, path in self._paths().items() if path is not None})


class ChineseClipConfig(_DatasetConfig):
    """A split of a data set in Chinese-CLIP's form (MUGE, Flickr30K-CN, COCO-CN as it distributes them;
    CulTi)."""

    folder: Path = Field(description="the data set's folder")
    split: str = Field("test", description="beginning of the file names: {split}_texts.jsonl")
    texts: Path | None = Field(
        None,
        description="texts file; by default {split}_texts.jsonl or MR_{split}_queries.jsonl, else lmdb/{split}/pairs",
    )
    images: Path | None = Field(
        None,
        description="TSV, LMDB folder or folder of pictures; by default the first of {split}_imgs.tsv, "
        "lmdb/{split}/imgs, MR_{split}_imgs.tsv, {split}_images, images",
    )
    all_pictures: bool = Field(
        False, description="of a folder of pictures take all, not only those that the split's texts name"
    )
    language: str | None = Field("zh", description="language of the texts: zh, en or null")
    encoding: Encoding = Field(None, description=ENCODING)

    def _paths(self) -> dict[str, Path | None]:
        return {"folder": self.folder, "texts": self.texts, "images": self.images}


class KarpathyConfig(_DatasetConfig):
    """Splits of dataset_coco.json or dataset_flickr30k.json."""

    file: Path = Field(description="the split JSON")
    images: Path = Field(description="folder that the JSON's filepath/filename is relative to")
    prefix: str | None = Field(
        None, description="beginning of the pictures' paths that stands for that folder, for example D:\\\\museum"
    )
    splits: tuple[str, ...] = Field(
        ("test",), min_length=1, description="splits to take; COCO's usual training set is train and restval"
    )
    captions: Path | None = Field(
        None, description="caption file (image#zhc#0 caption) whose texts take the place of the JSON's"
    )
    language: str | None = Field(None, description="language of the texts; by default en, or zh with captions")
    encoding: Encoding = Field(None, description=f"with captions: {ENCODING}")

    def _paths(self) -> dict[str, Path | None]:
        return {"file": self.file, "images": self.images, "captions": self.captions}


class CaptionsConfig(_DatasetConfig):
    """A caption file of Flickr8K-CN, Flickr30K-CN or COCO-CN."""

    file: Path = Field(description="the caption file: image#zhc#0 caption, or image#0 TAB caption")
    images: Path = Field(description="folder below which the pictures are, named by their image's key")
    split_list: Path | None = Field(None, description="file with an image key a line; by default all images")
    language: str | None = Field("zh", description="language of captions whose tag (#zhc#, #enc#) does not tell")
    encoding: Encoding = Field(None, description=ENCODING)

    def _paths(self) -> dict[str, Path | None]:
        return {"file": self.file, "images": self.images, "split_list": self.split_list}


class ArtworkPairsConfig(_DatasetConfig):
    """Artworks with descriptions, boxes and phrases; the form is in `heritage_align.data.artwork_pairs`."""

    file: Path = Field(description="the JSON Lines file, one artwork a line")
    images: Path | None = Field(None, description="folder that picture paths are relative to; by default the file's")
    prefix: str | None = Field(
        None, description="beginning of the pictures' paths that stands for that folder, for example D:\\\\museum"
    )
    split: str | None = Field(None, description="take artworks of this split; by default all")
    language: str | None = Field(None, description="language of texts that do not say theirs: zh, en or null")
    encoding: Encoding = Field(None, description=ENCODING)

    def _paths(self) -> dict[str, Path | None]:
        return {"file": self.file, "images": self.images}


class TableConfig(_DatasetConfig):
    """A table of pictures and texts, one text a row."""

    file: Path = Field(description=".csv, .tsv, .tab, .txt, .jsonl, .ndjson or .json")
    encoding: Encoding = Field(None, description=ENCODING)
    delimiter: Annotated[str | None, BeforeValidator(lambda value: "\t" if value == r"\t" else value)] = Field(
        None,
        min_length=1,
        max_length=1,
        pattern=r'[^"\r\n]',
        description=r"character between columns, \t for a tab; by default the one of , ; tab and | that fits",
    )
    images: Path | None = Field(None, description="folder that picture paths are relative to; by default the file's")
    prefix: str | None = Field(
        None, description="beginning of the pictures' paths that stands for that folder, for example D:\\\\museum"
    )
    image: str = Field("image", description="column with the picture's path, or those of several")
    text: str = Field("text", description="column with the text")
    id: str = Field("id", description="column with the text's id; without it ids are <image>#<number>")
    phrases: str = Field("phrases", description="column with the text's noun phrases")
    separator: str = Field("|", min_length=1, description="between phrases, and between pictures, in a CSV or TSV")
    split_column: str = Field("split", description="column with the split")
    split: str | None = Field(None, description="take rows of this split; by default all")
    language_column: str = Field("language", description="column with the language")
    language: str | None = Field(None, description="language of rows that do not say theirs: zh, en or null")
    group: str | None = Field(
        None, description="column with what must stay together in cross-validation (an artwork's name); null: nothing"
    )
    require_pictures: bool = Field(
        True, description="refuse a table none of whose pictures is there; false where only features are read"
    )

    def _paths(self) -> dict[str, Path | None]:
        return {"file": self.file, "images": self.images}


class PrecomputedConfig(_DatasetConfig):
    """A split as VSE++, SCAN and BFAN keep it; its pictures are the features of a proposer."""

    folder: Path = Field(description="folder with {split}_ims.npy, {split}_caps.txt and perhaps {split}_ids.txt")
    split: str = Field("test", description="beginning of the file names")
    language: str | None = Field("en", description="language of the captions: zh, en or null")
    encoding: Encoding = Field(None, description=ENCODING)

    def _paths(self) -> dict[str, Path | None]:
        return {"folder": self.folder}


class FoldConfig(ComponentConfig):
    """One part of one fold of another data set; artworks are never split between parts."""

    of: dict[str, Any] = Field(description="the whole data set, {name: ..., settings}")
    folds: int = Field(4, ge=2, description="number of folds")
    fold: int = Field(1, ge=1, description="the fold that is tested on, from 1")
    part: Literal["train", "val", "test"] = Field("test", description="which part of that fold")
    validation_share: float = Field(0.1, gt=0, lt=1, description="share of the training artworks that is part val")
    seed: int = Field(0, ge=0, description="of the division")

    @model_validator(mode="after")
    def _fold_exists(self) -> FoldConfig:
        if self.fold > self.folds:
            raise ValueError(f"fold: there are {self.folds} folds, from 1; got {self.fold}")
        return self

    def nested(self) -> dict[str, tuple[Kind, dict[str, Any]]]:
        """Return the whole data set."""
        return {"of": ("dataset", self.of)}


class UnionConfig(ComponentConfig):
    """Several data sets as one; no image or text id may be in two of them."""

    of: tuple[dict[str, Any], ...] = Field(min_length=1, description="the data sets, {name: ..., settings} each")

    def nested(self) -> dict[str, tuple[Kind, dict[str, Any]]]:
        """Return the parts."""
        return {f"of.{number}": ("dataset", part) for number, part in enumerate(self.of)}


class DetailsConfig(ComponentConfig):
    """Details cut around the golden regions of another data set, with the phrases of what each shows."""

    of: dict[str, Any] = Field(description="a data set with golden regions, {name: ..., settings}")
    each: int = Field(4, ge=1, description="details of a picture")
    spread: float = Field(
        1.0, ge=0, le=1,
        description="0: tight squares, the region in the middle; 1: up to 3.5 times its size, the region anywhere",
    )  # fmt: skip
    shown: float = Field(0.6, gt=0, le=1, description="share of a region that must be in a detail to be named")
    ground: float = Field(0.0, ge=0, le=1, description="share of the details whose text names the ground as well")
    seed: int = Field(0, ge=0, description="of the windows")
    kept_mib: int = Field(512, ge=0, description="MiB of whole pictures kept in memory, to be cut from again")

    def nested(self) -> dict[str, tuple[Kind, dict[str, Any]]]:
        """Return the data set that is cut from."""
        return {"of": ("dataset", self.of)}


class CroppedConfig(ComponentConfig):
    """Random crops of another data set's pictures, with the texts of the whole pictures."""

    of: dict[str, Any] = Field(description="a data set with texts, {name: ..., settings}")
    each: int = Field(1, ge=1, description="crops of a picture")
    scale: tuple[float, float] = Field((0.3, 1.0), description="least and largest share of a picture's area")
    seed: int = Field(0, ge=0, description="of the crops")
    kept_mib: int = Field(512, ge=0, description="MiB of whole pictures kept in memory, to be cut from again")

    @field_validator("scale")
    @classmethod
    def _is_a_share(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] <= value[1] <= 1:
            raise ValueError("expected two ascending shares above 0 and up to 1")
        return value

    def nested(self) -> dict[str, tuple[Kind, dict[str, Any]]]:
        """Return the data set that is cut from."""
        return {"of": ("dataset", self.of)}


class FolderConfig(_DatasetConfig):
    """Pictures without texts; ids are their relative paths."""

    folder: Path = Field(description="folder that is searched for pictures, with its subfolders")

    def _paths(self) -> dict[str, Path | None]:
        return {"folder": self.folder}


class IiifConfig(_DatasetConfig):
    """A manifest or collection of the IIIF Presentation API; ids are the canvases' addresses."""

    manifest: str = Field(min_length=1, description="file, or address of the web, of a manifest or collection")
    allow_network: bool = Field(False, description="fetch what is on the web; without, only files are read")
    cache: Path | None = Field(
        None, description="folder where what was fetched is kept, to be read without the network"
    )
    side: int = Field(1024, ge=1, description="longer side in pixels that image services are asked for")
    texts: tuple[Literal["label", "summary", "metadata"], ...] = Field(
        ("label", "summary", "metadata"), description="texts of manifests and canvases that are taken"
    )
    language: str | None = Field(
        None, description="take texts in this language alone (zh), and those that say none; by default all"
    )
    timeout: float = Field(30.0, gt=0, description="seconds that a server may be silent")

    def _paths(self) -> dict[str, Path | None]:
        return {} if "://" in self.manifest else {"manifest": Path(self.manifest)}
