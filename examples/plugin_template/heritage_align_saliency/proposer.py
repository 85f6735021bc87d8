"""Spectral residual saliency (Hou and Zhang 2007), and the boxes of its proto-objects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL.Image import Image, Resampling

from heritage_align.plugin import BuildContext, Regions
from heritage_align_saliency.config import SaliencyBoxesConfig

SIDE = 64
"""Cells of the saliency map along each side; the paper scales pictures to 64 pixels."""


class SaliencyBoxes:
    """Boxes around connected cells that stand out; the whole picture where none does."""

    def __init__(self, config: SaliencyBoxesConfig, context: BuildContext) -> None:
        self._config = config

    def propose(self, images: Sequence[Image], ids: Sequence[str]) -> list[Regions]:
        """Return the most salient regions of every image, scored by their share of its saliency."""
        return [self._regions(image) for image in images]

    def _regions(self, image: Image) -> Regions:
        saliency = spectral_residual(np.asarray(image.convert("L").resize((SIDE, SIDE), Resampling.BILINEAR)))
        parts = components(saliency > self._config.threshold * saliency.mean())
        parts.sort(key=lambda cells: -saliency[cells].sum())
        found = [(_box(cells), float(saliency[cells].sum())) for cells in parts[: self._config.count]]
        if self._config.whole or not found:
            found.append(((0, 0, SIDE, SIDE), float(saliency.sum())))
        scale = np.array([image.width, image.height, image.width, image.height], dtype=np.float32) / SIDE
        boxes = np.array([box for box, _ in found], dtype=np.float32) * scale
        scores = np.array([mass for _, mass in found], dtype=np.float32) / np.float32(saliency.sum())
        return Regions(boxes, scores)


def spectral_residual(grey: np.ndarray) -> np.ndarray:
    """Return the saliency ``(height, width)`` of grey levels ``(height, width)``, positive.

    ``S = g * |F^-1(exp(L - h * L + i P))|^2`` with the log amplitude L and phase P of the spectrum, h a mean over
    3 x 3 and g a Gaussian (Hou and Zhang 2007, eqs 5 and 6).
    """
    spectrum = np.fft.fft2(grey.astype(np.float64))
    # Amplitudes of a plain picture are 0; one grey level over the whole picture is far above this floor.
    log_amplitude = np.log(np.abs(spectrum) + 1e-3)
    residual = log_amplitude - _mean3(log_amplitude)
    saliency = np.abs(np.fft.ifft2(np.exp(residual + 1j * np.angle(spectrum)))) ** 2
    # A Gaussian of sigma 2.5 cells, multiplied in the spectrum: its transform is a Gaussian too.
    frequency = np.fft.fftfreq(SIDE)
    window = np.exp(-2 * (np.pi * 2.5) ** 2 * (frequency[:, None] ** 2 + frequency[None, :] ** 2))
    smooth = np.fft.ifft2(np.fft.fft2(saliency) * window).real
    return np.maximum(smooth, 0) + 1e-12


def components(mask: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the 4-connected parts of a mask as index arrays ``(rows, columns)``, in reading order."""
    todo = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    parts = []
    for start in sorted(todo):
        if start not in todo:
            continue
        todo.remove(start)
        part, edge = [start], [start]
        while edge:
            y, x = edge.pop()
            near = {(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)} & todo
            todo -= near
            part += near
            edge += near
        rows, columns = np.array(sorted(part)).T
        parts.append((rows, columns))
    return parts


def _mean3(values: np.ndarray) -> np.ndarray:
    """Return means over 3 x 3; a spectrum is periodic, so the edges wrap."""
    rows = values + np.roll(values, 1, axis=0) + np.roll(values, -1, axis=0)
    both: np.ndarray = (rows + np.roll(rows, 1, axis=1) + np.roll(rows, -1, axis=1)) / 9
    return both


def _box(cells: tuple[np.ndarray, np.ndarray]) -> tuple[int, int, int, int]:
    rows, columns = cells
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1
