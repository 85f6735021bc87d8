"""Data sets with one fault each."""

from __future__ import annotations

import io
import random
import time

from kit_subjects.right import Dataset
from PIL import Image

from heritage_align.protocols import BuildContext, ImageFile
from heritage_align.testing.samples import images
from heritage_align.types import GoldenPair, TextItem


class SameIdTwice(Dataset):
    image_ids = ("pattern", "noise", "pattern", "broken")


class LostAnswer(Dataset):
    texts = (TextItem("t1", "a pattern", ("patern",)),)


class BlankText(Dataset):
    texts = (TextItem("t1", "  ", ("pattern",)),)


class GreyPictures(Dataset):
    def load_image(self, image_id: str) -> Image.Image:
        return super().load_image(image_id).convert("L")


class OneFileForAll(Dataset):
    def image_file(self, image_id: str) -> ImageFile:
        buffer = io.BytesIO()
        images()["pattern"].save(buffer, "PNG")
        return ImageFile(buffer.getvalue(), image_id)


class SharedPlace(Dataset):
    def load_image(self, image_id: str) -> Image.Image:
        self.wanted = image_id
        time.sleep(0.002)
        return super().load_image(self.wanted)


class OtherOrder(Dataset):
    def __init__(self, config: object, context: BuildContext) -> None:
        random.seed()
        self.image_ids = (f"{random.random()}", *Dataset.image_ids)

    def load_image(self, image_id: str) -> Image.Image:
        return images()["flat"] if image_id not in Dataset.image_ids else super().load_image(image_id)


class BoxOfThePrint(Dataset):
    golden = (GoldenPair("pattern", (100, 80, 260, 200), ("a red patch",)),)


class BareKeyError(Dataset):
    def load_image(self, image_id: str) -> Image.Image:
        {i: i for i in self.image_ids}[image_id]
        return super().load_image(image_id)


class NamelessError(Dataset):
    def load_image(self, image_id: str) -> Image.Image:
        try:
            return super().load_image(image_id)
        except Exception as error:
            if image_id == "broken":
                raise OSError("image file is truncated (0 bytes not processed)") from error
            raise
