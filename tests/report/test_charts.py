"""Charts and printed numbers: lengths, places and roundings."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from heritage_align.report.charts import _apart, _ticks, cost_chart, recall_bars
from heritage_align.report.model import SystemRow
from heritage_align.report.table import duration, stars

SYSTEMS = [
    SystemRow("global", {"t2i": {1: 25.0, 5: 50.0, 10: 75.0}}, encode_seconds=1.0),
    SystemRow("scan", {"t2i": {1: 50.0, 5: 80.0, 10: 100.0}}, encode_seconds=8.0, score_seconds=2.0),
]


def test_bars_are_as_long_as_the_recalls_and_the_darkest_is_on_top() -> None:
    bars = [e for e in ET.fromstring(recall_bars(SYSTEMS, "t2i")) if e.tag == "rect"]
    lengths = [float(e.attrib["width"]) for e in bars]
    assert [e.attrib["class"][-1] for e in bars] == ["2", "1", "0"] * 2
    full = lengths[3]
    assert [length / full for length in lengths] == pytest.approx([0.75, 0.5, 0.25, 1.0, 0.8, 0.5], abs=1e-3)
    assert bars[0].attrib["y"] < bars[3].attrib["y"]


def test_dots_lie_by_decade_and_recall() -> None:
    dots = [e for e in ET.fromstring(cost_chart(SYSTEMS)) if e.tag == "circle"]
    (x1, y1), (x2, y2) = ((float(d.attrib["cx"]), float(d.attrib["cy"])) for d in dots)
    assert x2 > x1, "ten seconds lie right of one"
    assert y2 < y1, "a higher recall lies higher"
    assert [d[0].text for d in dots] == [
        "global: mean recall 50.0 %, 1.0 s",
        "scan: mean recall 76.7 %, 10 s",
    ]


@pytest.mark.parametrize("seconds", [(2.0, 2.0), (0.001, 5000.0), (1.0, 1000.0)])
def test_every_dot_is_inside_the_chart(seconds: tuple[float, float]) -> None:
    rows = [
        SystemRow(f"s{i}", {"t2i": {1: v}}, encode_seconds=s) for i, (s, v) in enumerate(zip(seconds, (0.0, 100.0)))
    ]
    chart = ET.fromstring(cost_chart(rows))
    _, _, width, height = (float(v) for v in chart.attrib["viewBox"].split())
    for dot in (e for e in chart if e.tag == "circle"):
        assert 40 <= float(dot.attrib["cx"]) <= width - 100
        assert 10 <= float(dot.attrib["cy"]) <= height - 20


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(50.0, 50.0, [50, 51, 52]), (55.9, 83.5, [50, 60, 70, 80, 90]), (0.0, 100.0, [0, 20, 40, 60, 80, 100])],
)
def test_ticks_are_round_and_enclose_the_values(low: float, high: float, ticks: list[int]) -> None:
    assert _ticks(low, high) == ticks


def test_labels_keep_their_order_and_distance() -> None:
    placed = _apart([50.0, 52.0, 10.0, 51.0], 15.0, 0.0, 100.0)
    assert placed == [50.0, 80.0, 10.0, 65.0]
    assert _apart([99.0, 100.0], 15.0, 0.0, 100.0) == [85.0, 100.0], "pushed up from the lower edge"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0.0000042, "0.00 ms"),
        (0.0032, "3.2 ms"),
        (0.126, "126 ms"),
        (0.9996, "1.0 s"),
        (9.96, "10 s"),
        (15.4, "15 s"),
        (599.0, "599 s"),
        (720.0, "12 min"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("p", "mark"), [(0.05, ""), (0.049, "*"), (0.0099, "**"), (0.00099, "***"), (0.001, "**")])
def test_stars(p: float, mark: str) -> None:
    assert stars(p) == mark
