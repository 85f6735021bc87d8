"""Settings of the Faster R-CNN proposer."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from heritage_align.plugin import ComponentConfig, Facts, ModelPart, ModelSource

Architecture = Literal["resnet50_fpn", "resnet50_fpn_v2", "mobilenet_v3_large_fpn", "mobilenet_v3_large_320_fpn"]

TORCHVISION_DIM = 1024
"""Width of the pooled features of every architecture of torchvision's."""


class FasterRcnnConfig(ComponentConfig):
    """Which detector, and which of its boxes.

    The defaults are those of Sheng et al. 2021 where they state them: 10 regions, the ones of the highest
    objectness. Their detector, a ResNet-101 trained on Visual Genome, needs provider detectron2.
    """

    provider: Literal["torchvision", "detectron2"] = Field(
        "torchvision",
        description="The library that runs the detector; detectron2 is not on the package index.",
    )
    architecture: Architecture = Field(
        "resnet50_fpn", description="torchvision only: the model; mobilenet_v3_large_320_fpn is the fastest."
    )
    config_file: Path | None = Field(
        None, description="detectron2 only, and needed there: its YAML configuration of the model."
    )
    weights: Literal["coco", "random"] | Path = Field(
        "coco",
        description="A file (.pth, .safetensors; for detectron2 also .pkl); coco: torchvision's own, "
        "downloaded once into torch's cache; random: untrained, from the run's seed, for tests.",
    )
    count: int = Field(10, ge=1, description="Regions a picture at most.")
    rank_by: Literal["objectness", "class"] = Field(
        "objectness",
        description="objectness: proposals of the first stage by their objectness, as Sheng et al. 2021; "
        "class: detections of the second stage by their class score, as bottom-up attention.",
    )
    features: Literal["none", "pooled"] = Field(
        "none",
        description="none: regions are cut out for the encoder; pooled: they come with the features of the second "
        "stage, the whole picture as one more box, for an encoder that takes features.",
    )
    min_score: float = Field(
        0.05, ge=0.0, lt=1.0, description="rank_by class only: detections below this class score are dropped."
    )
    nms: float = Field(
        0.7,
        gt=0.0,
        le=1.0,
        description="Of two boxes whose IoU is above this the lower-ranked is dropped, whatever their class.",
    )
    min_side: float = Field(
        1.0, gt=0.0, description="Boxes narrower or lower than this many pixels of the picture are dropped."
    )

    @model_validator(mode="after")
    def _provider_has_its_files(self) -> FasterRcnnConfig:
        if self.provider == "torchvision" and self.config_file is not None:
            raise ValueError("config_file: is for provider detectron2; torchvision has architecture")
        if self.provider == "detectron2":
            if self.config_file is None:
                raise ValueError("config_file: provider detectron2 needs one")
            if self.config_file.suffix not in (".yaml", ".yml"):
                # A lazy configuration is a Python program.
                raise ValueError(f"config_file: expected a .yaml file, got {str(self.config_file)!r}")
            if self.weights == "coco":
                raise ValueError("weights: 'coco' is torchvision's; provider detectron2 needs a file")
        return self

    def models(self) -> tuple[ModelSource, ...]:
        """Return torchvision's own file in torch's cache; a file that is named is among `facts`."""
        if self.weights != "coco":
            return ()
        from torch.hub import get_dir
        from torchvision.models import get_model_weights

        url: str = get_model_weights(f"fasterrcnn_{self.architecture}").DEFAULT.url
        name, folder = url.rsplit("/", 1)[1], Path(get_dir()) / "checkpoints"
        return (ModelSource(name, (ModelPart("weights", ((name,),)),), folder, url=url),)

    def facts(self) -> Facts:
        """Name the files that must exist, and what pooled features are as far as the settings tell."""
        named = {"weights": self.weights, "config_file": self.config_file}
        files = {key: path for key, path in named.items() if isinstance(path, Path)}
        if self.features == "none":
            return Facts(files=files)
        dim = TORCHVISION_DIM if self.provider == "torchvision" else None
        return Facts(dim=dim, outputs=("crops", "features"), files=files)
