"""Validation by recall over the whole validation set (Chinese-CLIP's own shows the accuracy within a batch)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from heritage_align.evaluation import evaluate_scores
from heritage_align.plugin import TextItem
from heritage_align.training import RECALL


class Gallery:
    """Pictures and texts that are searched in both directions.

    Args:
        image_ids: all pictures.
        texts: all texts; those that belong to none of the pictures are candidates for image-to-text alone.
        recall_at: cut-offs.
    """

    def __init__(self, image_ids: Sequence[str], texts: Sequence[TextItem], recall_at: Sequence[int]) -> None:
        self._image_ids, self._texts, self._recall_at = tuple(image_ids), tuple(texts), tuple(recall_at)
        self._images: Tensor | None = None

    def recalls(self, images: Callable[[], Tensor], texts: Callable[[], Tensor], *, locked: bool) -> dict[str, float]:
        """Return recalls in percent, ``t2i_r1`` and the like, and under ``recall`` their mean.

        Args:
            images: encodes all pictures, ``(n_images, dim)`` unit rows.
            texts: encodes all texts.
            locked: the pictures' encoder is the one of the call before, which encoded them already.
        """
        found = self._images if locked else None
        if found is None:
            found = images()
        self._images = found if locked else None
        result = evaluate_scores(found @ texts().T, self._image_ids, self._texts, ks=self._recall_at)
        recalls = {f"{way}_r{k}": v for way, of in result.directions.items() for k, v in of.recall.items()}
        return {RECALL: result.mean_recall, **recalls}
