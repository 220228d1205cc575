"""Which files of an open data set are images, of which class, and for which purpose."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Layout:
    """What lies in a folder, told from names and lists, before an image is opened.

    Attributes:
        name: The proper name, which says what is missing of the published set.
        class_names: One per class, in the order of the labels.
        train: Relative name and label of every training image, in their order.
        test: The same for the test images.
        lists: Further files that decide what is read, such as lists of labels.
        side: Height and width to which images are brought on reading; None: they have one size.
        held_out: Share of ``train`` that becomes the test set, chosen by content.
        pad: Bring images to ``side`` whole, their longer side scaled to it, in the middle of black.
        groups: By name, one id per class: attributes of the images that follow from the class.
    """

    name: str
    class_names: tuple[str, ...]
    train: tuple[tuple[str, int], ...]
    test: tuple[tuple[str, int], ...]
    lists: tuple[str, ...] = ()
    side: int | None = None
    held_out: float = 0.0
    pad: bool = False
    groups: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def files(self) -> list[str]:
        """Names of all files that are read."""
        return [*self.lists, *(name for name, _ in self.train), *(name for name, _ in self.test)]


def natural(name: str) -> tuple[int, str]:
    """Sort key under which ``x_10.JPEG`` comes after ``x_9.JPEG``.

    >>> sorted(["b_10.png", "b_9.png", "a.png"], key=natural)
    ['a.png', 'b_9.png', 'b_10.png']
    """
    digits = "".join(sign for sign in name.rpartition("_")[2] if sign.isdecimal())
    return int(digits or 0), name
