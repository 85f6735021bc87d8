"""The pages of the service, each from its request to its answer."""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from collections.abc import Awaitable, Callable
from functools import cache, partial
from importlib.metadata import version
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from PIL.Image import Image

from heritage_align import __version__
from heritage_align.errors import HeritageAlignError
from heritage_align.search import Detail
from heritage_align.service import answers, metrics
from heritage_align.service.pictures import SIDE, decoded_picture, given_picture
from heritage_align.service.problems import Refused, described
from heritage_align.service.remote import fetch
from heritage_align.service.schemas import (
    DocumentId,
    DocumentImage,
    DocumentText,
    ExplainRequest,
    Explanation,
    GivenPicture,
    Health,
    Item,
    ItemList,
    RecipeList,
    RecipeName,
    Regions,
    RerankRequest,
    RerankResponse,
    SearchRequest,
    SearchResponse,
    StoredPicture,
)
from heritage_align.service.served import Served
from heritage_align.service.state import Service
from heritage_align.types import Hit, TextItem

T = TypeVar("T")
router = APIRouter()
ASKING = described(400, 404, 408, 413, 415, 422, 429, 503)
LOOKING = described(404, 422, 429, 503)
ChosenRecipe = Annotated[RecipeName, Query()]
LISTED = 1000
"""Ids in one answer."""
LIBRARIES = ("torch", "numpy", "pillow", "fastapi", "uvicorn")


@router.post("/search", response_model=SearchResponse, responses=ASKING, tags=["search"])
async def search(request: Request, body: SearchRequest) -> Response:
    """Answer a text, pictures or parts of them, or both together, with pictures of the store."""
    service = _service(request)
    served = service.catalogue.chosen(body.recipe)
    _log_query(request, service, served, body.text)
    defaults = served.pipeline.config.search
    top_k = _limited("k", body.k or defaults.top_k, service.settings.top_k)
    candidates = _limited("candidates", body.candidates or defaults.candidates, service.settings.candidates)
    if body.text is not None:
        _check_text("text", body.text, body.phrases, service)
    if not body.pictures:
        assert body.text is not None
        question = answers.TextQuestion(body.text, tuple(body.phrases), top_k, candidates, body.min_relevance)
        # A last look leaves out what does not fit, so there the bound is one for all that are asked together.
        kind = ("search", served.name, top_k, candidates, body.min_relevance if served.looks_last else None)
        found = await _asked(service, kind, question, lambda asked: answers.search_texts(served, asked))
    else:
        found = await _search_pictures(service, served, body, top_k, candidates)
    return _json(
        {
            "recipe": served.name,
            "store": found.store,
            "hits": [_hit(hit) for hit in found.hits],
            "nothing_fits": None if found.best is None else {"best": _hit(found.best)},
            "notes": found.notes,
        }
    )


async def _search_pictures(
    service: Service, served: Served, body: SearchRequest, top_k: int, candidates: int
) -> answers.Found:
    _limited("pictures", sum(max(1, len(picture.boxes)) for picture in body.pictures), service.settings.pictures)
    details: list[Detail] = []
    regions: list[tuple[str, int]] = []
    for place, picture in enumerate(body.pictures):
        if isinstance(picture, StoredPicture) and picture.region is not None:
            answers.row_of(served.opened, picture.id)
            regions.append((picture.id, picture.region))
        else:
            details += await _in_pictures(service, partial(_details, service, served, picture, place))
    text = None if body.text is None else TextItem("query", body.text, phrases=tuple(body.phrases))
    question = answers.PictureQuestion(tuple(details), tuple(regions), text, body.weight, body.whole, top_k, candidates)
    return await _asked_alone(service, lambda: answers.search_pictures(served, question))


def _details(service: Service, served: Served, picture: StoredPicture | GivenPicture, place: int) -> list[Detail]:
    """Decode a picture of a query and take its boxes."""
    if isinstance(picture, GivenPicture):
        name = f"pictures.{place}"
        image = given_picture(picture.data, name, service.settings.pixels)
    else:
        name = picture.id
        image = _picture(served, picture.id)
    if not picture.boxes:
        return [Detail(image, name)]
    across, down = image.size if picture.unit == "fraction" else (1.0, 1.0)
    details = []
    for box in picture.boxes:
        x0, y0, x1, y1 = box
        detail = Detail(image, name, (x0 * across, y0 * down, x1 * across, y1 * down))
        detail.inside()
        details.append(detail)
    return details


@router.post("/rerank", response_model=RerankResponse, responses=ASKING, tags=["search"])
@router.post("/v1/rerank", response_model=RerankResponse, responses=ASKING, tags=["search"])
@router.post("/v2/rerank", response_model=RerankResponse, responses=ASKING, tags=["search"])
async def rerank(request: Request, body: RerankRequest) -> Response:
    """Rank pictures for a text, in the form of Cohere's and Jina's rerank; /v1 and /v2 are for their clients."""
    service = _service(request)
    served = service.catalogue.chosen(body.model)
    _log_query(request, service, served, body.query)
    _check_text("query", body.query, (), service)
    _limited("documents", len(body.documents), service.settings.documents)
    documents = await _documents(service, body)
    question = answers.RerankQuestion(body.query, tuple(documents))
    given = any(not isinstance(document, str) for document in documents)
    kind = uuid.uuid4() if given else ("rerank", served.name)  # nobody else waits for pictures to be encoded
    scores = await _asked(service, kind, question, lambda asked: answers.rerank(served, asked))
    order = sorted(range(len(scores)), key=lambda place: -scores[place])[: body.top_n]
    results = []
    for place in order:
        result: dict[str, Any] = {"index": place, "relevance_score": answers.finite(scores[place])}
        if body.return_documents:
            document = body.documents[place]
            result["document"] = {"id": document} if isinstance(document, str) else document.model_dump()
        results.append(result)
    return _json(
        {
            "id": request.state.request_id,
            "model": served.name,
            "results": results,
            "meta": {"api_version": {"version": "2"}},
            "usage": {"total_tokens": 0},
        }
    )


async def _documents(service: Service, body: RerankRequest) -> list[str | Image]:
    """Return ids, and pictures decoded."""
    found: list[str | Image] = []
    images = 0
    for place, document in enumerate(body.documents):
        if isinstance(document, DocumentText):
            sentence = "is a text; this service ranks pictures: give ids of the store, or images"
            raise Refused(422, f"documents.{place}: {sentence}")
        if isinstance(document, DocumentId):
            found.append(document.id)
        elif isinstance(document, DocumentImage) or document[:11].lower() == "data:image/":
            images += 1
            _limited("documents that are images", images, service.settings.pictures)
            data = document.image if isinstance(document, DocumentImage) else document
            found.append(await _in_pictures(service, partial(_document_image, service, data, place)))
        else:
            found.append(document)
    return found


def _document_image(service: Service, data: str, place: int) -> Image:
    name = f"documents.{place}"
    if data[:8].lower().startswith(("http://", "https://")):
        return decoded_picture(fetch(data, name, service.settings), name, service.settings.pixels)
    return given_picture(data, name, service.settings.pixels)


@router.post("/explain", response_model=Explanation, responses=ASKING, tags=["search"])
async def explain(request: Request, body: ExplainRequest) -> Response:
    """Say which region of a picture of the store answers which phrase of a text, and how every region does."""
    service = _service(request)
    served = service.catalogue.chosen(body.recipe)
    _log_query(request, service, served, body.text)
    _check_text("text", body.text, body.phrases, service)
    if not served.explains:
        raise Refused(422, f"recipe {served.name!r} compares whole pictures: there is no region to explain a score by")
    item = TextItem("query", body.text, phrases=tuple(body.phrases))
    found = await _asked_alone(service, lambda: answers.explain(served, body.id, item))
    return _json({**await _regions(service, served, body.id), **found})


@router.get("/items", response_model=ItemList, responses=LOOKING, tags=["pictures"])
async def items(
    request: Request,
    recipe: ChosenRecipe = None,
    start: Annotated[int, Query(ge=0, le=2**62, description="place of the first one, from 0")] = 0,
    count: Annotated[int, Query(ge=1, le=LISTED)] = 100,
) -> Response:
    """List pictures of the store in its order: what there is, for who has nothing to ask yet."""
    served = _service(request).catalogue.chosen(recipe)
    opened = served.opened
    store = opened.searcher.store
    ids = list(store.ids[start : start + count])
    return _json({"recipe": served.name, "store": opened.identity, "total": len(store), "ids": ids})


@router.get("/items/{image_id:path}/picture", response_class=Response, responses=LOOKING | {
    200: {"content": {"image/webp": {"schema": {"type": "string", "format": "binary"}}}, "description": "WebP."}
}, tags=["pictures"])  # fmt: skip
async def picture(
    request: Request,
    image_id: str,
    recipe: ChosenRecipe = None,
    size: Annotated[int, Query(ge=16, le=8192, description="pixels of the longer side, at most")] = SIDE,
) -> Response:
    """Return a picture of the store, upright, as large as it is or as `size` says."""
    service = _service(request)
    served = service.catalogue.chosen(recipe)
    answers.row_of(served.opened, image_id)
    side = min(size, service.settings.picture_side)
    key = (served.name, served.opened.identity, image_id, side)
    tag = f'"{hashlib.sha256(repr(key).encode(errors="replace")).hexdigest()[:24]}"'
    headers = {"etag": tag, "cache-control": "private, max-age=60"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    data = await _in_pictures(service, lambda: _rendition(service, served, key, image_id, side))
    return Response(data, media_type="image/webp", headers=headers)


@router.get("/items/{image_id:path}/regions", response_model=Regions, responses=LOOKING, tags=["pictures"])
async def regions(request: Request, image_id: str, recipe: ChosenRecipe = None) -> Response:
    """Return the regions that the store has of a picture."""
    service = _service(request)
    return _json(await _regions(service, service.catalogue.chosen(recipe), image_id))


@router.get("/items/{image_id:path}", response_model=Item, responses=LOOKING, tags=["pictures"])
async def item(request: Request, image_id: str, recipe: ChosenRecipe = None) -> Response:
    """Say what there is of a picture of the store."""
    service = _service(request)
    served = service.catalogue.chosen(recipe)
    found = await _regions(service, served, image_id)
    collection = served.collection
    texts = [] if collection is None else collection.texts(image_id)
    return _json(
        {
            "id": image_id,
            "recipe": served.name,
            "picture": found["width"] is not None,
            "width": found["width"],
            "height": found["height"],
            "regions": len(found["regions"]),
            "texts": [{"text": text.text, "language": text.language} for text in texts],
        }
    )


@router.get("/recipes", response_model=RecipeList, responses=described(), tags=["service"])
async def recipes(request: Request) -> Response:
    """List what is served; the first recipe is the default."""
    return _json({"recipes": [_recipe(served) for served in _service(request).catalogue.values()]})


@router.get("/health", response_model=Health, response_model_exclude_none=True, tags=["service"])
async def health(request: Request) -> Response:
    """Say whether the service answers, and with what; without the token the status alone."""
    catalogue = _service(request).catalogue
    status = "degraded" if any(served.fault for served in catalogue.values()) else "ok"
    if not request.state.bears_token:
        return _json({"status": status})
    return _json({"status": status, "versions": _versions(), "recipes": [_recipe(each) for each in catalogue.values()]})


@router.get("/metrics", response_class=Response, responses=described() | {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus' text form."}
}, tags=["service"])  # fmt: skip
async def numbers() -> Response:
    """Return the metrics."""
    return Response(metrics.exposition(), headers={"content-type": metrics.CONTENT_TYPE})


@cache
def _versions() -> dict[str, str]:
    return {"heritage-align": __version__, **{name: version(name) for name in LIBRARIES}}


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def _asked(service: Service, kind: Any, question: Any, answer: Any) -> Any:
    """Ask with the others of its kind; an answer that is a `Refused` is raised."""
    assert service.batcher is not None
    result = await _in_time(service, service.batcher.ask(kind, question, answer))
    if isinstance(result, Refused):
        raise result
    return result


async def _asked_alone(service: Service, work: Callable[[], T]) -> T:
    found: T = await _asked(service, uuid.uuid4(), None, lambda _: [work()])
    return found


async def _in_time(service: Service, work: Awaitable[T]) -> T:
    seconds = service.settings.answer_seconds
    try:
        return await asyncio.wait_for(work, seconds)
    except asyncio.TimeoutError:
        raise Refused(503, f"there was no answer after {seconds:g} s", retry_after=max(1, round(seconds))) from None


async def _in_pictures(service: Service, work: Callable[[], T]) -> T:
    loop = asyncio.get_running_loop()
    return await _in_time(service, loop.run_in_executor(service.pictures, work))


async def _regions(service: Service, served: Served, image_id: str) -> dict[str, Any]:
    """Return the body of `Regions`."""

    def look() -> dict[str, Any]:
        found = served.use(lambda opened: answers.regions_of(opened, image_id))
        size = _size(served, image_id)
        for region in found:
            region["pixels"] = None if size is None else _pixels(region["box"], size)
        width, height = size or (None, None)
        return {"id": image_id, "recipe": served.name, "width": width, "height": height, "regions": found}

    return await _in_pictures(service, look)


def _pixels(box: list[float], size: tuple[int, int]) -> list[float]:
    width, height = size
    x0, y0, x1, y1 = box
    return [round(value, 2) for value in (x0 * width, y0 * height, x1 * width, y1 * height)]


def _size(served: Served, image_id: str) -> tuple[int, int] | None:
    collection = served.collection
    if collection is None or image_id not in collection:
        return None
    try:
        return collection.size(image_id)
    except HeritageAlignError:  # it is gone, or cannot be read: its features are there all the same
        return None


def _picture(served: Served, image_id: str) -> Image:
    """Decode a picture of the store; raises Refused (404) where it is not to be had."""
    answers.row_of(served.opened, image_id)
    collection = served.collection
    if collection is None or image_id not in collection:
        raise Refused(404, f"the picture of {image_id[:80]!r} is not on this machine")
    try:
        return collection.load(image_id)
    except HeritageAlignError as error:
        raise Refused(404, f"the picture of {image_id[:80]!r} cannot be read", detail=str(error)) from error


def _rendition(service: Service, served: Served, key: Any, image_id: str, side: int) -> bytes:
    return service.renditions.render(key, lambda: _picture(served, image_id), side)


def _recipe(served: Served) -> dict[str, Any]:
    opened, pipeline = served.opened, served.pipeline
    store, search = opened.searcher.store, pipeline.config.search
    return {
        "name": served.name,
        "store": opened.identity,
        "images": len(store),
        "dim": store.manifest.dim,
        "encoder": served.fingerprints[0],
        "text_encoder": served.fingerprints[1],
        "similarity": pipeline.config.similarity.spec.name,
        "has_regions": store.has_regions,
        "explains": served.explains,
        "calibrated": opened.calibrated,
        "pictures": served.collection is not None,
        "top_k": search.top_k,
        "candidates": search.candidates,
        "opened": opened.moment.isoformat(timespec="seconds"),
        "fault": served.fault,
    }


def _hit(hit: Hit) -> dict[str, Any]:
    found = hit.asdict()
    del found["corpus_id"]
    return found


def _limited(name: str, value: int, most: int) -> int:
    if value > most:
        raise Refused(422, f"{name}: {value} is more than the limit of {most}")
    return value


def _check_text(name: str, text: str, phrases: Any, service: Service) -> None:
    settings = service.settings
    _limited(f"characters of {name}", len(text), settings.text_length)
    _limited("phrases", len(phrases), settings.phrases)
    _limited("characters of phrases", sum(map(len, phrases)), settings.text_length)


def _log_query(request: Request, service: Service, served: Served, text: str | None) -> None:
    """Say in the log which recipe was asked; the text only where the settings want it."""
    fields = {"recipe": served.name}
    if service.settings.log_queries and text is not None:
        fields["query"] = text
    request.state.fields = fields


def _json(body: Any) -> Response:
    return Response(json.dumps(body, ensure_ascii=False, allow_nan=False).encode(), media_type="application/json")
