"""What the Visual Genome detectors of bottom-up attention (Anderson et al. 2018) have and detectron2 has not.

They were trained in Caffe, and their conversion came with settings of its own in a copy of detectron2.
Without them a configuration is refused for its unknown keys, or the weights load and the boxes are wrong.
"""

from __future__ import annotations

from typing import Any

from detectron2.modeling.backbone.resnet import BasicStem
from torch import Tensor
from torch.nn.functional import max_pool2d, relu_


def add_bottom_up_options(cfg: Any) -> None:
    """Make the settings known, with the values that mean detectron2's own architecture."""
    cfg.MODEL.CAFFE_MAXPOOL = False
    cfg.MODEL.PROPOSAL_GENERATOR.HID_CHANNELS = -1
    cfg.MODEL.ROI_BOX_HEAD.RES5HALVE = True
    # The attribute head has no part in finding boxes: its settings are read, its weights ignored.
    cfg.MODEL.ROI_BOX_HEAD.ATTR = False
    cfg.MODEL.ROI_BOX_HEAD.NUM_ATTRS = 400


def translate_bottom_up_options(cfg: Any) -> None:
    """Say in detectron2's terms what it has terms for, before the model is built."""
    if cfg.MODEL.PROPOSAL_GENERATOR.HID_CHANNELS != -1:
        cfg.MODEL.RPN.CONV_DIMS = [cfg.MODEL.PROPOSAL_GENERATOR.HID_CHANNELS]


def apply_bottom_up_options(model: Any, cfg: Any) -> None:
    """Change the rest in the model as built, before its weights are loaded."""
    if cfg.MODEL.CAFFE_MAXPOOL:
        stem = model.backbone.stem
        model.backbone.stem = CaffeStem(stem.in_channels, stem.out_channels, cfg.MODEL.RESNETS.NORM).to(
            next(stem.parameters()).device
        )
    if not cfg.MODEL.ROI_BOX_HEAD.RES5HALVE:
        _widen_res5(model.roi_heads.res5)


class CaffeStem(BasicStem):
    """A ResNet stem whose pooling rounds its size up instead of padding, as Caffe's does."""

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(n, out_channels, height / 4, width / 4)`` of ``(n, 3, height, width)``, rounded up."""
        return max_pool2d(relu_(self.conv1(x)), kernel_size=3, stride=2, padding=0, ceil_mode=True)


def _widen_res5(blocks: Any) -> None:
    """Let the last stage keep the resolution of its input and see as far by dilation."""
    first = next(blocks.children())
    first.conv1.stride = first.shortcut.stride = (1, 1)
    for block in blocks.children():
        block.conv2.padding = block.conv2.dilation = (2, 2)
