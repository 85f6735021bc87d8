"""The losses of both stages. Sources: NRCCR and C2KD (public code of the authors' group and of its neighbours).

CL2CM's own equations are not published. Which losses are combined, and how, is our reconstruction.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div

from heritage_align_plugins.cl2cm.text import Encoded
from heritage_align_plugins.cl2cm.transport import mutual_maxima, transport_plan

_NEVER = -1e9


def cosine_info_nce(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of every row against all of the other side, mean of both directions; ``(n, dim)`` unit rows."""
    logits = a @ b.T / temperature
    right = torch.arange(len(a), device=a.device)
    return (cross_entropy(logits, right) + cross_entropy(logits.T, right)) / 2


def hardest_triplet(a: Tensor, b: Tensor, margin: float) -> Tensor:
    """Sum over both directions of the hinge with the hardest negative of the batch (VSE++; NRCCR: margin 0.2, sum)."""
    cosines = a @ b.T
    right = cosines.diagonal()
    own = torch.eye(len(a), dtype=torch.bool, device=a.device)
    by_row = (margin + cosines - right[:, None]).masked_fill(own, 0).clamp(min=0).amax(1)
    by_column = (margin + cosines - right[None, :]).masked_fill(own, 0).clamp(min=0).amax(0)
    return by_row.sum() + by_column.sum()


def word_alignment(target: Encoded, source: Encoded, temperature: float, iterations: int = 2) -> Tensor:
    """Let each aligned word find its partner among the words of the other sentence.

    The aligned pairs are the mutual maxima of the transport plan, which also weighs them and gets no gradient. A word
    that the translator put wrong is seldom a mutual maximum, and weighs little where it is. The choice among the words
    of one sentence (XLM-Align's pointer) has no false negatives, as that among a batch would.

    Args:
        target: translations ``(n, n_target, dim)``.
        source: their sources ``(n, n_source, dim)``.
        temperature: of the choice.
        iterations: of Sinkhorn.
    """
    cosines = target.tokens @ source.tokens.transpose(1, 2)
    with torch.no_grad():
        plan = transport_plan(cosines, target.mask, source.mask, iterations)
        weights = plan * mutual_maxima(plan)
    logits = cosines / temperature
    to_source = logits.masked_fill(~source.mask[:, None, :], _NEVER).log_softmax(2)
    to_target = logits.masked_fill(~target.mask[:, :, None], _NEVER).log_softmax(1)
    return -(weights * (to_source + to_target)).sum() / (2 * weights.sum())


def relational_distillation(teacher: Tensor, student: Tensor, teacher_temperature: float, temperature: float) -> Tensor:
    """KL divergence of the student's relations in a batch from the teacher's, mean of both directions (form: C2KD).

    Args:
        teacher: ``(n, n)`` cosines of source captions (rows) with translations (columns); gets no gradient.
        student: ``(n, n)`` cosines of the pictures of those captions with the same translations.
        teacher_temperature: of the teacher's relations; a lower one than the student's sharpens them.
        temperature: of the student's.
    """
    wanted, found = teacher.detach() / teacher_temperature, student / temperature
    rows, columns = (
        kl_div(f.log_softmax(1), w.log_softmax(1), reduction="batchmean", log_target=True)
        for w, f in ((wanted, found), (wanted.T, found.T))
    )
    return (rows + columns) / 2
