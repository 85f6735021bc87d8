"""Two charts as SVG text, coloured by the page's style sheet: recall by system, and what the recall costs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from heritage_align.report.model import DIRECTIONS, SystemRow
from heritage_align.report.table import duration

_WIDTH = 560
_NAMES = 150
_ROW = 30


def recall_bars(systems: Sequence[SystemRow], direction: str) -> Markup:
    """Draw one bar a system with the recalls of one direction inside each other, R@1 the darkest.

    Recall grows with K, so the bars of one system nest and their ends can be compared down the chart.
    """
    rows = [row for row in systems if row.recall.get(direction)]
    left, right, top = _NAMES, _WIDTH - 126, 26
    height = top + _ROW * len(rows) + 8
    parts = []
    for percent in range(0, 101, 20):
        x = left + (right - left) * percent / 100
        parts.append(
            Markup('<line class="grid" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>').format(x, top, height - 8)
        )
        parts.append(
            Markup('<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(x, top - 8, percent)
        )
    for n, row in enumerate(rows):
        y = top + _ROW * n + 5
        parts.append(_name(row.name, left - 10, y + 15))
        recall = row.recall[direction]
        for shade, k in reversed(list(enumerate(sorted(recall)))):
            bar = Markup('<rect class="bar shade{}" x="{}" y="{}" width="{:.1f}" height="20"><title>{}</title></rect>')
            wide = (right - left) * recall[k] / 100
            parts.append(bar.format(min(shade, 2), left, y, wide, f"{row.name}: R@{k} {recall[k]:.1f} %"))
        end = left + (right - left) * max(recall.values()) / 100
        numbers = " · ".join(f"{recall[k]:.1f}" for k in sorted(recall))
        parts.append(Markup('<text class="value" x="{:.1f}" y="{}">{}</text>').format(end + 6, y + 15, numbers))
    names = ", ".join(row.name for row in rows)
    words = f"{DIRECTIONS[direction]}: recall in percent of {names}; the table has the numbers"
    return _svg(height, words, parts)


def cost_chart(systems: Sequence[SystemRow]) -> Markup:
    """Draw mean recall against time (logarithmic), one dot a system that has a time."""
    rows = [(row, row.seconds) for row in systems if row.seconds]
    times = [seconds for _, seconds in rows if seconds]
    low, high = math.floor(math.log10(min(times))), math.ceil(math.log10(max(times)) + 1e-9)
    high = max(high, low + 1)
    recalls = [row.mean_recall for row, _ in rows]
    values = _ticks(min(recalls), max(recalls))
    bottom_value, top_value = values[0], values[-1]
    left, right, top, bottom = 46, _WIDTH - 120, 16, 236
    parts = []
    for power in range(low, high + 1):
        x = left + (right - left) * (power - low) / (high - low)
        parts.append(Markup('<line class="grid" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>').format(x, top, bottom))
        label = Markup('<text class="tick" x="{:.1f}" y="{}" text-anchor="middle">{}</text>')
        parts.append(label.format(x, bottom + 18, f"{10.0**power:g} s"))
    for value in values:
        y = bottom - (bottom - top) * (value - bottom_value) / (top_value - bottom_value)
        parts.append(Markup('<line class="grid" x1="{1}" x2="{2}" y1="{0:.1f}" y2="{0:.1f}"/>').format(y, left, right))
        label = Markup('<text class="tick" x="{}" y="{:.1f}" text-anchor="end">{:.0f}</text>')
        parts.append(label.format(left - 8, y + 4, value))
    points = []
    for row, seconds in rows:
        x = left + (right - left) * (math.log10(seconds or 1.0) - low) / (high - low)
        y = bottom - (bottom - top) * (row.mean_recall - bottom_value) / (top_value - bottom_value)
        points.append((x, y, row))
    labels = _apart([y for _, y, _ in points], 15.0, top, bottom)
    for (x, y, row), label_y in zip(points, labels):
        title = f"{row.name}: mean recall {row.mean_recall:.1f} %, {duration(row.seconds)}"
        if abs(label_y - y) > 4:
            leader = Markup('<line class="leader" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>')
            parts.append(leader.format(x, y, x + 10, label_y))
        parts.append(
            Markup('<circle class="dot" cx="{:.1f}" cy="{:.1f}" r="5"><title>{}</title></circle>').format(x, y, title)
        )
        parts.append(Markup('<text class="name" x="{:.1f}" y="{:.1f}">{}</text>').format(x + 12, label_y + 4, row.name))
    words = "Mean recall in percent against the time to encode and score; the table has the numbers"
    return _svg(bottom + 28, words, parts)


def _ticks(low: float, high: float) -> list[int]:
    """Return three to six round percentages that enclose a range."""
    for step in (1, 2, 5, 10, 20, 25):
        first, last = math.floor(low / step), math.ceil(high / step)
        if last - first <= 5:
            break
    last = max(last, first + 2)
    return [step * n for n in range(first, last + 1)]


def _apart(wanted: Sequence[float], gap: float, top: float, bottom: float) -> list[float]:
    """Move label positions as little as needed, in their order, until they are `gap` apart."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = list(wanted)
    previous = top - gap
    for i in order:
        placed[i] = max(wanted[i], previous + gap)
        previous = placed[i]
    limit = bottom + gap
    for i in reversed(order):
        placed[i] = min(placed[i], limit - gap)
        limit = placed[i]
    return placed


def _name(name: str, x: float, y: float) -> Markup:
    short = name if len(name) <= 20 else name[:19] + "…"
    return Markup('<text class="name" x="{}" y="{}" text-anchor="end">{}</text>').format(x, y, short)


def _svg(height: float, words: str, parts: Sequence[Markup]) -> Markup:
    head = Markup('<svg class="chart" viewBox="0 0 {} {:.0f}" role="img" aria-label="{}">').format(
        _WIDTH, height, words
    )
    return head + Markup("").join(parts) + Markup("</svg>")
