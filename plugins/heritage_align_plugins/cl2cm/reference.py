"""The formulas of `transport` and `losses` once more, word by word and pair by pair, to test against."""

from __future__ import annotations

import math
from collections.abc import Sequence

Matrix = Sequence[Sequence[float]]


def transport_plan(cosines: Matrix, iterations: int) -> list[list[float]]:
    """Return Sinkhorn's plan of two sentences without padding (XLM-Align; total mass 1)."""
    plan = [[max(cosine, 1e-6) for cosine in row] for row in cosines]
    for _ in range(iterations):
        sums = [sum(row[j] for row in plan) for j in range(len(plan[0]))]
        plan = [[value / sums[j] for j, value in enumerate(row)] for row in plan]
        plan = [[value / sum(row) for value in row] for row in plan]
    return [[value / len(plan) for value in row] for row in plan]


def word_alignment(pairs: Sequence[Matrix], temperature: float, iterations: int) -> float:
    """Return the word-level loss of sentence pairs, each given as cosines of target (rows) with source words."""
    loss = mass = 0.0
    for cosines in pairs:
        plan = transport_plan(cosines, iterations)
        for i, row in enumerate(plan):
            for j, weight in enumerate(row):
                if weight < max(row) or weight < max(other[j] for other in plan):
                    continue
                to_source = softmax([value / temperature for value in cosines[i]])[j]
                to_target = softmax([other[j] / temperature for other in cosines])[i]
                loss -= weight * (math.log(to_source) + math.log(to_target)) / 2
                mass += weight
    return loss / mass


def relational_distillation(teacher: Matrix, student: Matrix, teacher_temperature: float, temperature: float) -> float:
    """Return the mean of the KL divergences over rows and over columns."""
    temperatures = teacher_temperature, temperature
    return (_kl(teacher, student, *temperatures) + _kl(_transposed(teacher), _transposed(student), *temperatures)) / 2


def cosine_info_nce(cosines: Matrix, temperature: float) -> float:
    """Return the mean cross-entropy of the diagonal, over rows and over columns."""
    total = 0.0
    for matrix in (cosines, _transposed(cosines)):
        for k, row in enumerate(matrix):
            total -= math.log(softmax([value / temperature for value in row])[k])
    return total / (2 * len(cosines))


def hardest_triplet(cosines: Matrix, margin: float) -> float:
    """Return the sum of hinges with the hardest negative of each row and each column."""
    total = 0.0
    for matrix in (cosines, _transposed(cosines)):
        for k, row in enumerate(matrix):
            total += max([0.0, *(margin + value - row[k] for j, value in enumerate(row) if j != k)])
    return total


def softmax(values: Sequence[float]) -> list[float]:
    """Return exp(v) over the sum of all exp(v)."""
    powers = [math.exp(value) for value in values]
    return [power / sum(powers) for power in powers]


def _kl(teacher: Matrix, student: Matrix, teacher_temperature: float, temperature: float) -> float:
    total = 0.0
    for wanted, found in zip(teacher, student):
        p = softmax([value / teacher_temperature for value in wanted])
        q = softmax([value / temperature for value in found])
        total += sum(a * math.log(a / b) for a, b in zip(p, q))
    return total / len(teacher)


def _transposed(matrix: Matrix) -> list[list[float]]:
    return [list(column) for column in zip(*matrix)]
