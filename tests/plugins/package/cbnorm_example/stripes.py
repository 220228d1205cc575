"""400 images of 16x16 with stripes that lie or stand."""

from pathlib import Path
from typing import Any

from cbnorm.data.extend import ImageSet


def read(_folder: Path) -> tuple[Any, Any]:
    import numpy as np

    index = np.arange(400)[:, None, None]
    y, x = np.mgrid[:16, :16]
    stripes = (np.where(index % 2, x, y) + index // 2 % 4) // (2 + index // 8 % 3) % 2
    images, labels = (255 * stripes[:, None]).astype("uint8"), index.ravel() % 2
    return (images[:300], labels[:300]), (images[300:], labels[300:])


STRIPES = ImageSet(
    name="Stripes",
    class_names=("lying", "standing"),
    counts={"train": 300, "test": 100},
    checksum="sha1:758e6bcd8f5f231d1e641659ef6d701c84266760",
    read=read,
)
