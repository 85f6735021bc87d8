"""The report page: one HTML file with everything in it, readable by any browser, now and in ten years.

There is no script and no request: style, charts and pictures are inside, and a content security policy
forbids the rest. Captions and ids come from collections of strangers; the template escapes every value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL.Image import Image

from heritage_align.report.album import Album, embed, thumbnail
from heritage_align.report.charts import cost_chart, recall_bars
from heritage_align.report.model import DIRECTIONS, QueryExample, ReportData
from heritage_align.report.palette import phrase_colour
from heritage_align.report.table import LEVELS, page_table

BUDGET = 6 * 2**20
"""Bytes of pictures in a page; mail servers refuse attachments from about 10 MB."""

RIGHT_SHOWN = 2
"""Right pictures beside a query; a caption of some data sets has many."""


@dataclass(frozen=True)
class _Thumbnails:
    """Symbols in the page by image id: a picture that ten systems answer is stored once."""

    ids: Mapping[str, str]
    album: Album


def render(data: ReportData, *, budget: int = BUDGET) -> str:
    """Return the page as one HTML document.

    Args:
        data: what it says.
        budget: bytes for all pictures together; quality is lowered and then pictures are left out to keep it.
            A third goes to thumbnails, the rest to explanations.
    """
    thumbnails = _thumbnails(data, budget // 3)
    sheets = embed({str(n): e.picture(titled=False) for n, e in enumerate(data.explanations)}, budget - budget // 3)
    # One chart is enough beside the table: of the direction that people search in, where it was evaluated.
    charted = next((d for d in DIRECTIONS if sum(d in row.recall for row in data.systems) > 1), None)
    timed = [row for row in data.systems if row.seconds]
    page = _environment().get_template("page.html")
    return page.render(
        data=data,
        table=page_table(data.systems, data.baseline),
        levels=LEVELS,
        bars=recall_bars(data.systems, charted) if charted else None,
        bars_title=DIRECTIONS[charted] if charted else "",
        ks=sorted({k for row in data.systems for recall in row.recall.values() for k in recall}),
        cost=cost_chart(timed) if len(timed) > 1 else None,
        thumbs=thumbnails,
        sheets=sheets.pictures,
        right_shown=RIGHT_SHOWN,
        left_out=len(sheets.left_out) + len(thumbnails.album.left_out),
        style=Markup((files("heritage_align.report") / "templates" / "page.css").read_text(encoding="utf-8")),
        colour=lambda n: "#{:02x}{:02x}{:02x}".format(*phrase_colour(n)),
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("heritage_align.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["language"] = _language
    return environment


def _thumbnails(data: ReportData, budget: int) -> _Thumbnails:
    wanted: dict[str, Image] = {}
    for example in data.examples:
        for image_id in _shown(example):
            if image_id in data.pictures and image_id not in wanted:
                wanted[image_id] = thumbnail(data.pictures[image_id])
    names = {image_id: f"picture-{n}" for n, image_id in enumerate(wanted)}
    album = embed({names[image_id]: image for image_id, image in wanted.items()}, budget)
    return _Thumbnails({i: name for i, name in names.items() if name in album.pictures}, album)


def _shown(example: QueryExample) -> list[str]:
    return [
        *sorted(example.right)[:RIGHT_SHOWN],
        *(hit.id for answers in example.answers for hit in answers.hits),
    ]


def _language(text: str, known: str | None = None) -> str:
    """Return the language tag that makes a browser choose the right letter forms."""
    if known:
        return known
    return "zh" if any("\u3400" <= c <= "\u9fff" for c in text) else "en"
