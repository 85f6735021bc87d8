"""The history of a run as a picture: losses and recall by epoch."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from heritage_align.errors import Note
from heritage_align.store.files import write_atomically

HISTORY = "history.jsonl"
PLOT = "history.svg"
_NO_CURVES = frozenset({"epoch", "learning_rate", "seconds"})


def write_history(history: Sequence[Mapping[str, float]], folder: Path) -> None:
    """Draw ``history.svg``: what was trained on above, what was measured by validation (in percent) below.

    Without matplotlib there is a warning that says how to get it, and no picture: the numbers are in ``history.jsonl``.

    Args:
        history: one record an epoch; keys that begin with ``loss`` are losses, the other ones percentages.
        folder: where the picture goes.
    """
    try:
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError:
        message = f"{PLOT} is not drawn without matplotlib: pip install 'heritage-align[plots]'"
        warnings.warn(message, Note, stacklevel=2)
        return
    names = [name for name in dict.fromkeys(key for record in history for key in record) if name not in _NO_CURVES]
    losses = [name for name in names if name.startswith("loss")]
    panels = [("loss", losses), ("validation, %", [name for name in names if name not in losses])]
    panels = [(label, curves) for label, curves in panels if curves]
    figure = Figure(figsize=(7, 2.6 * len(panels)), layout="constrained")
    for row, (label, curves) in enumerate(panels, start=1):
        axes = figure.add_subplot(len(panels), 1, row)
        for name in curves:
            points = [(record["epoch"], record[name]) for record in history if name in record]
            axes.plot(*zip(*points), marker="o" if len(points) < 30 else None, markersize=3, label=name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small", frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[-1].set_xlabel("epoch")
    FigureCanvasSVG(figure)
    write_atomically(folder / PLOT, lambda temporary: figure.savefig(temporary, format="svg"))


def history_files(folder: Path) -> dict[str, Path]:
    """Return what there is of a run's history in ``folder``, by the names that `TrainingOutcome.files` has for it."""
    files = {"history": folder / HISTORY, "plot": folder / PLOT}
    return {name: path for name, path in files.items() if path.exists()}
