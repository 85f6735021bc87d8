"""What requests and answers look like: the models behind OpenAPI. Limits that settings choose are checked later."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from heritage_align.text import is_blank


def _not_blank(value: str) -> str:
    if is_blank(value):
        raise ValueError("is blank")
    return value


Text = Annotated[str, Field(min_length=1), AfterValidator(_not_blank)]
Coordinate = Annotated[float, Field(allow_inf_nan=False)]
Box = Annotated[list[Coordinate], Field(min_length=4, max_length=4, description="x0, y0, x1, y1")]
RecipeName = Annotated[
    str | None, Field(description="one of those of GET /recipes; the first where it is left out", min_length=1)
]
K = Annotated[int | None, Field(ge=1, description="answers; search.top_k of the recipe by default")]
Candidates = Annotated[
    int | None,
    Field(ge=1, description="pictures handed to the full similarity; search.candidates of the recipe by default"),
]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Bound = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Boxed(_Request):
    boxes: list[Box] = Field(
        default_factory=list, description="parts of the picture, each a detail of the query; none: the whole picture"
    )
    unit: Literal["fraction", "pixel"] = Field(
        "fraction", description="of the boxes: of width and height, as in hits, or pixels of the upright picture"
    )


class StoredPicture(_Boxed):
    """A picture of the store as a query."""

    id: str = Field(min_length=1, description="of a picture of the store")
    region: int | None = Field(
        None, ge=0, description="number of a region as POST /explain lists them; finds more like it in other pictures"
    )

    @model_validator(mode="after")
    def _one_way(self) -> StoredPicture:
        if self.region is not None and self.boxes:
            raise ValueError("give boxes or a region, not both")
        return self


class GivenPicture(_Boxed):
    """A picture that comes with the request."""

    data: str = Field(min_length=1, description="the encoded picture in base64, or a data URI")


def _kind_of_picture(value: Any) -> str:
    stored = "id" in value if isinstance(value, dict) else isinstance(value, StoredPicture)
    return "stored" if stored else "given"


QueryPicture = Annotated[
    Annotated[StoredPicture, Tag("stored")] | Annotated[GivenPicture, Tag("given")], Discriminator(_kind_of_picture)
]


class SearchRequest(_Request):
    """A query: a text, pictures or parts of them, or both together."""

    text: Text | None = None
    phrases: list[Text] = Field(default_factory=list, description="of the text; else the recipe splits it")
    pictures: list[QueryPicture] = Field(default_factory=list)
    whole: bool = Field(False, description="compare whole pictures instead of their regions")
    weight: Share = Field(0.5, description="of the text beside pictures")
    k: K = None
    candidates: Candidates = None
    min_relevance: Bound | None = Field(
        None, description="leave out answers of less relevance, under 1; the store must be calibrated"
    )
    recipe: RecipeName = None

    @model_validator(mode="after")
    def _asks(self) -> SearchRequest:
        if self.text is None and not self.pictures:
            raise ValueError("give a text, or pictures, or both")
        if self.phrases and self.text is None:
            raise ValueError("phrases are of a text, which is missing")
        if self.pictures and self.min_relevance is not None:
            raise ValueError("min_relevance is of text queries; a query with pictures has no calibration")
        if self.whole and not self.pictures:
            raise ValueError("whole compares pictures, and there is none")
        by_region = [isinstance(picture, StoredPicture) and picture.region is not None for picture in self.pictures]
        if any(by_region) and (not all(by_region) or self.text is not None or self.whole):
            raise ValueError("regions by number are a query alone: without text, whole, or other pictures")
        return self


class DocumentId(BaseModel):
    """A picture of the store."""

    id: str = Field(min_length=1)


class DocumentImage(BaseModel):
    """A picture that is not in the store: an address on an allowed host, a data URI, or base64."""

    image: str = Field(min_length=1)


class DocumentText(BaseModel):
    """A text; it is refused, as this service ranks pictures."""

    text: str


def _kind_of_document(value: Any) -> str | None:
    if isinstance(value, str):
        return "string"
    names = value if isinstance(value, dict) else vars(value) if isinstance(value, BaseModel) else ()
    return next((name for name in ("id", "image", "text") if name in names), None)


Document = Annotated[
    Annotated[str, Tag("string")]
    | Annotated[DocumentId, Tag("id")]
    | Annotated[DocumentImage, Tag("image")]
    | Annotated[DocumentText, Tag("text")],
    Discriminator(
        _kind_of_document,
        custom_error_type="document",
        custom_error_message='expected the id of a picture, {"id": ...} or {"image": ...}',
    ),
]


class RerankRequest(BaseModel):
    """A rerank in the form of Cohere (v1 and v2) and Jina; settings of theirs that mean nothing here are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True)

    query: Text
    documents: list[Document] = Field(
        min_length=1, description="ids of pictures of the store, or pictures; a string that is a data URI is a picture"
    )
    top_n: int | None = Field(None, ge=1, description="results; all by default")
    return_documents: bool | None = Field(None, description="repeat each document in its result")
    model: RecipeName = None


class ExplainRequest(_Request):
    """A picture of the store and a text."""

    id: str = Field(min_length=1)
    text: Text
    phrases: list[Text] = Field(default_factory=list)
    recipe: RecipeName = None


class Fault(BaseModel):
    """One place of a request that is at fault."""

    place: str
    message: str


class Problem(BaseModel):
    """Why there is no answer."""

    message: str
    request_id: str
    faults: list[Fault] = []


class Answered(BaseModel):
    """The region that answered a phrase of the text, or a detail."""

    phrase: str
    box: Box = Field(description="fractions of width and height")
    score: float


class HitModel(BaseModel):
    """An answer."""

    id: str
    rank: int
    score: float | None = Field(description="null for a picture without regions")
    relevance: float | None = Field(None, description="share of unrelated queries whose best answer scores lower")
    last: float | None = Field(
        None, description="rating of the last look, by which what was looked at is ranked, before the rest"
    )
    regions: list[Answered] = []


class NothingFits(BaseModel):
    """Said where no answer has the relevance that was asked for."""

    best: HitModel


class SearchResponse(BaseModel):
    """Answers, best first."""

    recipe: str
    store: str = Field(description="identity of what was searched, as in GET /recipes")
    hits: list[HitModel]
    nothing_fits: NothingFits | None = None
    notes: list[str] = Field(default=[], description="what the user should know, of what was not read for example")


class RerankResult(BaseModel):
    """A document at its new place."""

    index: int = Field(description="of the document in the request, from 0")
    relevance_score: float | None = Field(
        description="of the recipe's similarity, of any range; null for a picture without regions"
    )
    document: dict[str, Any] | None = None


class RerankResponse(BaseModel):
    """Results, best first; in the forms of Cohere and of Jina at once."""

    id: str
    model: str
    results: list[RerankResult]
    meta: dict[str, Any] = Field(description="Cohere's")
    usage: dict[str, int] = Field(description="Jina's; no tokens are counted")


class Caption(BaseModel):
    """A text of a picture in its collection."""

    text: str
    language: str | None = None


class Item(BaseModel):
    """A picture of the store."""

    id: str
    recipe: str
    picture: bool = Field(description="whether GET /items/{id}/picture has it")
    width: int | None = Field(description="of the upright picture in pixels; null without it")
    height: int | None
    regions: int = Field(description="that the store holds of it")
    texts: list[Caption]


class ItemList(BaseModel):
    """Some pictures of the store, in its order."""

    recipe: str
    store: str = Field(description="identity of the store, as in GET /recipes")
    total: int = Field(description="pictures that the store holds")
    ids: list[str]


class Region(BaseModel):
    """A region of a picture."""

    number: int
    box: Box = Field(description="fractions of width and height")
    pixels: list[float] | None = Field(description="the box in pixels of the upright picture; null without it")
    kept: bool = Field(description="false where a filter of the recipe masked it")


class Regions(BaseModel):
    """The regions of a picture."""

    id: str
    recipe: str
    width: int | None
    height: int | None
    regions: list[Region]


class PhraseAnswer(BaseModel):
    """How the regions answered a phrase."""

    phrase: str
    region: int = Field(description="number of the best one")
    score: float
    scores: list[float | None] = Field(description="of every region; null for one that a filter masked")


class Explanation(Regions):
    """Which region of a picture answers which phrase of a text."""

    score: float | None
    phrases: list[PhraseAnswer]


class Recipe(BaseModel):
    """What is served under a name."""

    name: str
    store: str = Field(description="identity of the store: a digest of its manifest")
    images: int
    dim: int
    encoder: str = Field(description="fingerprint of the encoder, its weights' hash in it")
    text_encoder: str
    similarity: str
    has_regions: bool = Field(description="whether details can be searched")
    explains: bool = Field(description="whether POST /explain answers")
    calibrated: bool = Field(description="whether hits have a relevance")
    pictures: bool = Field(description="whether pictures can be shown")
    top_k: int
    candidates: int
    opened: str = Field(description="when the store was opened, in UTC")
    fault: str | None = Field(description="why a newer store is not served, or the store cannot be read")


class RecipeList(BaseModel):
    """What is served; the first is the default."""

    recipes: list[Recipe]


class Health(BaseModel):
    """Whether the service answers; without the token the status alone."""

    status: Literal["ok", "degraded"]
    versions: dict[str, str] | None = None
    recipes: list[Recipe] | None = None
