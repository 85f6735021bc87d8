"""Explain one score: which region of the picture answered which phrase of the text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from heritage_align.config import load_config
from heritage_align.document import parse_yaml
from heritage_align.errors import ConfigError, HeritageAlignError
from heritage_align.planning import compares_regions
from heritage_align.recipes import recipe_names, recipe_text
from heritage_align.report.heat import Bools, Floats, best_regions, check_responses
from heritage_align.report.overlay import draw_overlay

if TYPE_CHECKING:
    from PIL.Image import Image

    from heritage_align.config import Config
    from heritage_align.pipeline import Pipeline
    from heritage_align.types import TextFeatures, TextItem


@dataclass(frozen=True)
class Explanation:
    """How the regions of one picture answered the phrases of one text.

    Attributes:
        image: the upright picture.
        image_id: its id.
        text: the whole text.
        system: name of the configuration.
        score: of the whole text for the picture.
        phrases: ``n_fragments`` phrases; the text itself for a similarity without fragments.
        boxes: ``(n_regions, 4)`` float32 xyxy as fractions of width and height.
        responses: ``(n_fragments, n_regions)`` float32.
        keep: ``(n_regions,)`` bool, or None where no filter masked a region.
        best: for every phrase the region that answers it best.
    """

    image: Image = field(repr=False)
    image_id: str
    text: str
    system: str
    score: float
    phrases: tuple[str, ...]
    boxes: Floats = field(repr=False)
    responses: Floats = field(repr=False)
    keep: Bools | None = field(repr=False)
    best: tuple[int, ...]

    def answers(self) -> list[tuple[str, tuple[float, float, float, float], float]]:
        """Return ``(phrase, box as fractions, response)`` for every phrase, as in `types.Hit.regions`."""
        rows = []
        for row, (phrase, region) in enumerate(zip(self.phrases, self.best)):
            x0, y0, x1, y1 = (round(float(v), 4) for v in self.boxes[region])
            rows.append((phrase, (x0, y0, x1, y1), float(self.responses[row, region])))
        return rows

    def picture(self, *, titled: bool = True) -> Image:
        """Draw it (see `overlay.draw_overlay`), with the text above unless it stands elsewhere."""
        return draw_overlay(
            self.image,
            self.boxes,
            self.phrases,
            self.responses,
            keep=self.keep,
            score=self.score,
            title=self.text if titled else "",
        )

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict: score, and for every phrase its best box (fractions) and response."""
        answers = [{"phrase": p, "box": list(box), "response": response} for p, box, response in self.answers()]
        return {
            "image_id": self.image_id,
            "text": self.text,
            "system": self.system,
            "score": self.score,
            "regions": len(self.boxes),
            "regions_kept": len(self.boxes) if self.keep is None else int(self.keep.sum()),
            "phrases": answers,
        }


def explain(pipeline: Pipeline, image: Image, image_id: str, item: TextItem) -> Explanation:
    """Score one picture against one text and ask the similarity how each region answered each phrase.

    Args:
        pipeline: with regions that its similarity compares (`check_explainable`).
        image: the upright RGB picture.
        image_id: its id; proposers that are random draw by it.
        item: the text.

    Raises:
        ConfigError: as `check_explainable`.
        HeritageAlignError: no region was found in the picture, or the similarity answers for other fragments.
    """
    config = pipeline.config
    check_explainable(config)
    images = pipeline.encode_images([image], [image_id])
    texts = pipeline.encode_texts([item])
    if images.boxes is None or len(images.boxes) == 0:
        raise HeritageAlignError(f"{image_id}: the proposer found no region in this picture")
    responses = pipeline.similarity.respond(images, texts).detach().float().cpu().numpy()
    phrases = answered_phrases(pipeline, texts, item, len(responses))
    boxes = images.boxes.detach().float().cpu().numpy()
    keep = None if images.keep is None else images.keep.cpu().numpy()
    counted = check_responses(boxes, len(phrases), responses, keep)
    return Explanation(
        image=image,
        image_id=image_id,
        text=item.text,
        system=config.name,
        score=float(pipeline.score(images, texts)[0, 0]),
        phrases=phrases,
        boxes=boxes,
        responses=responses,
        keep=None if counted.all() else np.asarray(counted),
        best=tuple(best_regions(responses, counted)),
    )


def answered_phrases(pipeline: Pipeline, texts: TextFeatures, item: TextItem, answered: int) -> tuple[str, ...]:
    """Return what a similarity's responses are for: the phrases of a text, or all of it where it reads whole texts.

    Args:
        pipeline: whose similarity responded.
        texts: features of the text alone.
        item: the text.
        answered: fragments that there are responses for.

    Raises:
        HeritageAlignError: there is neither one response a phrase nor one for the whole text.
    """
    phrases = texts.phrases[0] if texts.phrases else (item.text,)
    if len(phrases) == answered:
        return tuple(phrases)
    if answered != 1:
        name = pipeline.config.similarity.spec.name
        raise HeritageAlignError(
            f"similarity {name!r} answered for {answered} fragments, but text {item.id!r} has {len(phrases)}"
        )
    return (item.text,)


def check_explainable(config: Config) -> None:
    """Raise ConfigError where whole pictures are compared, so that no region answers; names the recipes that can."""
    if compares_regions(config):
        return
    place, name = ("proposer", config.name) if config.proposer is None else ("similarity", config.similarity.spec.name)
    able = ", ".join(explaining_recipes())
    fault = f"{place}: {name!r} scores whole pictures, so there is no region to explain it by; recipes that can: {able}"
    raise ConfigError([fault], config.source)


def explaining_recipes() -> list[str]:
    """Return the recipes whose similarity compares regions."""
    return [name for name in recipe_names() if compares_regions(load_config(parse_yaml(recipe_text(name), name)))]
