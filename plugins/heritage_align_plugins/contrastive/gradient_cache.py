"""The gradient of a batch too large to encode at once (GradCache, Gao et al. 2021; Chinese-CLIP's --accum-freq).

In contrastive learning the loss needs the features of the whole batch, but its gradient reaches the encoders part by
part. So all parts are encoded without gradient first; the loss of the whole batch gives the gradient of every feature;
then each part is encoded again and takes its features' gradients back. The result is the whole batch's gradient, not an
approximation. (Chinese-CLIP's code keeps one part's graph at a time too, but computes the whole loss once a part, and
masks patches in the second pass alone.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Losses = Mapping[str, Tensor]
Encode = Callable[[int], tuple[Tensor, Tensor]]


def backward_in_parts(
    encode: Encode, parts: int, losses: Callable[[Tensor, Tensor], Losses], scale: Callable[[Tensor], Tensor]
) -> dict[str, float]:
    """Add the gradient of a batch's loss to the parameters.

    Dropout and masks are drawn from torch's generator, which is set before each part so that its two passes draw alike.

    Args:
        encode: returns the picture and text features of part k, each ``(n_k, dim)``.
        parts: how many there are; with one there is one pass.
        losses: the losses of the whole batch's features by name; ``"loss"`` is what is minimised.
        scale: of the loss before the backward pass (a gradient scaler's).

    Returns:
        The losses, unscaled.
    """
    if parts == 1:
        found = losses(*encode(0))
        scale(found["loss"]).backward()
        return {name: float(value.detach()) for name, value in found.items()}
    seed = int(torch.randint(2**62, ()))
    encoded = []
    with torch.no_grad():
        for part in range(parts):
            torch.manual_seed(seed + part)
            encoded.append(encode(part))
    leaves = [torch.cat(features).requires_grad_() for features in zip(*encoded)]
    found = losses(*leaves)
    scale(found["loss"]).backward()
    sizes = [len(images) for images, _ in encoded]
    gradients = [leaf.grad.split(sizes) for leaf in leaves if leaf.grad is not None]
    for part in range(parts):
        torch.manual_seed(seed + part)
        again = [(features, own[part]) for features, own in zip(encode(part), gradients) if features.requires_grad]
        torch.autograd.backward([features for features, _ in again], [gradient for _, gradient in again])
    return {name: float(value.detach()) for name, value in found.items()}
