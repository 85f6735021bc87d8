"""The report page: well formed, self-contained, safe with hostile text, within budget, right about hits."""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from heritage_align.evaluation.significance import PairedTest
from heritage_align.report.album import THUMBNAIL, embed, thumbnail
from heritage_align.report.explain import Explanation
from heritage_align.report.html import render
from heritage_align.report.model import QueryExample, ReportData, SystemAnswers, SystemRow
from heritage_align.types import Hit

HOSTILE = """"><script>alert('x')</script><img src=x onerror=alert(1)>{{ 7*7 }}</style></title>"""
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Element:
    """A parsed element: tag, attributes, children and the text directly inside."""

    def __init__(self, tag: str, attributes: dict[str, str]) -> None:
        self.tag, self.attributes, self.children, self.text = tag, attributes, list[Element](), ""

    def __iter__(self) -> Iterator[Element]:
        yield self
        for child in self.children:
            yield from child

    def all(self, tag: str, of_class: str = "") -> list[Element]:
        """Return descendants with this tag and class."""
        found = [e for e in self if e.tag == tag]
        return [e for e in found if not of_class or of_class in e.attributes.get("class", "").split()]

    def words(self) -> str:
        """Return the text of this element and all inside it."""
        return " ".join(e.text for e in self)


class Tree(HTMLParser):
    """Build the tree, and fail on a tag that is not closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.root = Element("root", {})
        self._open = [self.root]
        self.feed(page)
        self.close()
        assert [e.tag for e in self._open] == ["root"], "tags left open"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len({name for name, _ in attrs}), f"<{tag}> has an attribute twice"
        element = Element(tag, {name: value or "" for name, value in attrs})
        self._open[-1].children.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open[-1].children.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open[-1].tag == tag, f"</{tag}> closes <{self._open[-1].tag}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        self._open[-1].text += data


def parse(data: ReportData, **settings: int) -> Element:
    return Tree(render(data, **settings)).root


def paired(difference: float, p_value: float) -> PairedTest:
    return PairedTest(difference, p_value, 100, "paired randomisation")


def picture(seed: int, size: tuple[int, int] = (60, 40)) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(noise)


def explanation(text: str = "a crane", phrase: str = "crane") -> Explanation:
    boxes = np.array([[0, 0, 0.5, 1], [0.5, 0, 1, 1]], dtype=np.float32)
    responses = np.array([[0.1, 0.7]], dtype=np.float32)
    return Explanation(picture(9), "silk_9", text, "scan", 0.5, (phrase,), boxes, responses, None, (1,))


@pytest.fixture(scope="module")
def data() -> ReportData:
    hits = [Hit("silk_2", 0.5, 1), Hit("silk_1", 0.4, 2), Hit("lost", 0.3, 3)]
    recall = {"t2i": {1: 30.0, 5: 60.0, 10: 70.0}, "i2t": {1: 31.0, 5: 61.0, 10: 71.0}}
    better = {"t2i": {1: 45.0, 5: 59.0, 10: 70.5}, "i2t": {1: 46.0, 5: 66.0, 10: 76.0}}
    tests = {"t2i": {"R@1": paired(15.0, 0.0002), "R@5": paired(-1.0, 0.02), "R@10": paired(0.5, 0.4)}}
    answers = [
        SystemAnswers("global", hits, 2),
        SystemAnswers("scan", [Hit("silk_1", 0.6, 1), Hit("silk_2", 0.5, 2)], 1),
    ]
    return ReportData(
        title="Two systems",
        created=datetime(2026, 3, 4, 15, 22, tzinfo=timezone.utc),
        systems=[
            SystemRow("global", recall, "cosine", 2.0, 0.003),
            SystemRow("scan", better, "attention", 4.0, 0.2, tests),
        ],
        dataset="motifs: 3 pictures",
        baseline="global",
        examples=[QueryExample("q1", "一只鹤", frozenset({"silk_1"}), answers, "zh", "a crane")],
        pictures={"silk_1": picture(1), "silk_2": picture(2)},
        explanations=[explanation()],
        facts={"torch": "2.11"},
        configs={"scan": "version: 1\nname: scan\n"},
        notes=["One picture could not be read."],
        command="heritage-align demo",
    )


def test_page_is_well_formed_and_ids_are_unique(data: ReportData) -> None:
    ids = [e.attributes["id"] for e in parse(data) if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    for chart in re.findall(r'<svg class="chart".*?</svg>', render(data), re.S):
        ET.fromstring(chart)


def test_page_asks_for_nothing_and_runs_nothing(data: ReportData) -> None:
    page = render(data)
    root = Tree(page).root
    for element in root:
        for name in ("src", "href", "srcset", "poster", "action", "data", "style"):
            value = element.attributes.get(name, "#")
            assert value.startswith(("#", "data:image/webp;base64,")), (element.tag, name, value[:60])
        assert not [name for name in element.attributes if name.startswith("on")]
    assert not root.all("script") + root.all("link") + root.all("iframe")
    assert not re.search(r"url\(|@import|https?://", page)
    policy = next(e for e in root.all("meta") if e.attributes.get("http-equiv") == "Content-Security-Policy")
    assert policy.attributes["content"].startswith("default-src 'none'")


def test_links_inside_the_page_lead_somewhere(data: ReportData) -> None:
    root = parse(data)
    ids = {e.attributes.get("id") for e in root}
    targets = [e.attributes["href"] for e in root if e.attributes.get("href", "").startswith("#")]
    assert len(targets) >= 6
    assert all(target[1:] in ids for target in targets)


def test_hostile_text_is_shown_and_never_run(data: ReportData) -> None:
    hits = [Hit(HOSTILE, 0.5, 1), Hit("lost" + HOSTILE, 0.4, 2)]
    hostile = ReportData(
        title=HOSTILE,
        created=data.created,
        systems=[replace(row, name=HOSTILE + row.name, summary=HOSTILE) for row in data.systems],
        summary=HOSTILE,
        dataset=HOSTILE,
        baseline=HOSTILE + "global",
        examples=[QueryExample(HOSTILE, HOSTILE, frozenset({HOSTILE}), [SystemAnswers(HOSTILE, hits)], None, HOSTILE)],
        pictures={HOSTILE: picture(1)},
        explanations=[replace(explanation(HOSTILE, HOSTILE), image_id=HOSTILE, system=HOSTILE)],
        facts={HOSTILE: HOSTILE},
        configs={HOSTILE: HOSTILE},
        notes=[HOSTILE],
        command=HOSTILE,
    )
    root = parse(hostile)
    assert not root.all("script")
    assert [e.tag for e in root if any(name.startswith("on") for name in e.attributes)] == []
    assert {e.attributes["src"][:10] for e in root.all("img")} == {"data:image"}
    assert root.all("h1")[0].text == HOSTILE
    assert root.all("title")[0].text == HOSTILE
    assert root.all("li", "answer")[0].all("svg")[0].attributes["aria-label"].startswith(f"rank 1: {HOSTILE}")
    assert "49" not in root.all("h1")[0].text


def test_right_answers_are_framed_and_others_are_not(data: ReportData) -> None:
    root = parse(data)
    framed = [
        [("right" in li.attributes["class"].split(), li.all("b")[0].text) for li in system.all("li")]
        for system in root.all("div", "system")
    ]
    assert framed == [[(False, "1"), (True, "2"), (False, "3")], [(True, "1"), (False, "2")]]
    labels = [li.all("svg")[0].attributes["aria-label"] for li in root.all("li", "right")]
    assert labels == ["rank 2: silk_1, right answer", "rank 1: silk_1, right answer"]
    headings = [h.words() for h in root.all("h4")]
    assert "right answer at rank 2" in headings[0]
    assert "right answer at rank 1" in headings[1]
    wanted = root.all("div", "wanted")[0]
    assert [f.attributes["class"] for f in wanted.all("figure")] == ["answer right"]


def test_a_picture_is_stored_once_and_a_lost_one_is_named(data: ReportData) -> None:
    root = parse(data)
    symbols = root.all("symbol")
    assert len(symbols) == 2
    used = [e.attributes["href"] for e in root.all("use")]
    assert len(used) == 5  # one beside the query, two of each system
    assert set(used) == {f"#{s.attributes['id']}" for s in symbols}
    assert [e.text for e in root.all("span", "missing")] == ["lost"]


def test_table_has_the_papers_columns_marks_and_best_values(data: ReportData) -> None:
    table = parse(data).all("table")[0]
    top, heads = table.all("tr")[:2]
    assert [e.text for e in top.all("th")] == ["Text to image", "Image to text", "Both", "Time"]
    columns = [e.text for e in heads.all("th")]
    assert columns == ["System", *["R@1", "R@5", "R@10"] * 2, "MR", "rsum", "encode", "score"]
    baseline, scan = table.all("tr")[2:]
    assert "baseline" in baseline.attributes["class"]
    cells = scan.all("td")
    assert [c.all("span", "mark")[0].text for c in cells[:3]] == ["▲***", "▼*", ""]
    assert cells[0].attributes["title"] == "+15.0 points against global, p < 0.001"
    assert cells[1].attributes["title"] == "-1.0 points against global, p = 0.020"
    assert [c.words().strip() for c in cells[6:]] == ["60.4", "362.5", "4.0 s", "200 ms"]
    best = [bool(c.all("strong")) for c in cells[:6]]
    assert best == [True, False, True, True, True, True]
    assert not any(c.all("span", "mark")[0].text for c in baseline.all("td")[:6])


def test_chinese_text_is_tagged_for_its_letter_forms(data: ReportData) -> None:
    root = parse(data)
    query = root.all("div", "ask")[0]
    assert query.all("h3")[0].attributes["lang"] == "zh"
    assert query.all("p", "translation")[0].attributes["lang"] == "en"


def test_explanation_is_there_as_picture_and_as_text(data: ReportData) -> None:
    article = parse(data).all("article", "explanation")[0]
    image = article.all("img")[0].attributes
    decoded = Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2])))
    assert decoded.size == (int(image["width"]), int(image["height"]))
    assert image["alt"]
    row = article.all("tbody")[0].all("tr")[0]
    assert [e.text for e in (*row.all("th"), *row.all("td"))] == [
        "crane",
        "0.700",
        "50 %",
        "0 %",
        "100 %",
        "100 %",
    ]


def test_one_system_needs_no_baseline_no_marks_and_no_charts(data: ReportData) -> None:
    only = SystemRow("global", {"t2i": {1: 30.0, 5: 60.0}})
    root = parse(ReportData("One", data.created, [only]))
    table = root.all("table")[0]
    assert [e.text for e in table.all("tr")[1].all("th")] == ["System", "R@1", "R@5", "MR", "encode", "score"]
    assert [e.text for e in table.all("td") if e.text.strip()] == ["30.0", "60.0", "45.0", "–", "–"]
    assert not root.all("strong")
    assert not root.all("svg")
    assert not root.all("section")[1:-1], "no empty sections"


def test_pictures_stay_within_the_budget_and_the_page_says_what_is_missing(data: ReportData) -> None:
    many = replace(data, explanations=[explanation(phrase=f"phrase {n}") for n in range(3)])
    full, tight = render(many), render(many, budget=60_000)
    size = sum(len(uri) for uri in re.findall(r"data:image/webp;base64,[A-Za-z0-9+/=]+", tight))
    assert size <= 60_000 < len(full)
    assert "pictures were left out" in tight
    assert "pictures were left out" not in full
    assert len(Tree(tight).root.all("article", "explanation")) == 3, "their text stays"


def test_quality_falls_before_pictures_are_left_out() -> None:
    images = {str(n): picture(n, (200, 200)) for n in range(4)}
    free = embed(images, 10**9)
    size = sum(len(p.uri) for p in free.pictures.values())
    lower = embed(images, int(size * 0.6))
    assert list(lower.pictures) == list(images)
    assert sum(len(p.uri) for p in lower.pictures.values()) <= size * 0.6
    assert embed(images, 10).left_out == tuple(images)


def test_thumbnails_keep_their_shape_and_are_not_enlarged() -> None:
    assert thumbnail(Image.new("RGB", (1600, 400))).size == (THUMBNAIL, THUMBNAIL // 4)
    assert thumbnail(Image.new("RGB", (30, 20))).size == (30, 20)
    assert thumbnail(Image.new("RGB", (5000, 1))).size == (THUMBNAIL, 1)
