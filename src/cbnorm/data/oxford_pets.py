"""The folder layout of Oxford-IIIT Pet, and of a sample of it without lists."""

import os
from collections import Counter
from pathlib import Path

from cbnorm.data.layout import Layout, natural
from cbnorm.errors import CbnormError

#: Images in the published archive; its lists name 7,349 of them.
PUBLISHED = 7_390
BREEDS = 37
LISTS = ("annotations/list.txt", "annotations/trainval.txt", "annotations/test.txt")


def layout(folder: Path) -> Layout:
    """Tell what a folder ``oxford-iiit-pet`` holds.

    All images of the folder ``images`` are read, whether the lists name them or not, as the authors of the
    paper do. The breed is the file's name up to its number; breeds are numbered alphabetically, whatever the
    case, as the official class ids are. A breed of cats begins with a capital letter. The lists are read to
    check that. The official split (``trainval.txt``, ``test.txt``) isn't used: ``dataset.folds`` divides.

    Raises:
        CbnormError: A list is broken or contradicts the names, or a breed has no images.
    """
    found = _layout(folder, "Oxford-IIIT Pet", LISTS)
    try:
        for name in LISTS:
            _check_list(folder / name, found)
    except (OSError, UnicodeDecodeError) as error:
        raise CbnormError(f"Oxford-IIIT Pet can't be read: {error}") from error
    return found


def sample_layout(folder: Path) -> Layout:
    """Tell what a folder ``oxford-pets-sample`` holds: images named as the official ones, and no lists.

    Raises:
        CbnormError: A breed has no images.
    """
    return _layout(folder, "Oxford-IIIT Pet sample", ())


def breed(image: str) -> str:
    """The breed in a file's name.

    >>> breed("english_cocker_spaniel_12.jpg")
    'english_cocker_spaniel'
    """
    return image.rpartition("_")[0]


def _layout(folder: Path, name: str, lists: tuple[str, ...]) -> Layout:
    try:
        names = os.listdir(folder / "images")  # noqa: PTH208  (names are all that is needed)
    except OSError as error:
        raise CbnormError(f"{name} can't be read: {error}") from error
    images = [image for image in names if image.lower().endswith(".jpg") and breed(image)]
    breeds = sorted({breed(image) for image in images}, key=str.lower)
    if len(breeds) != BREEDS:
        raise CbnormError(
            f"{folder / 'images'} holds {len(breeds)} breeds, not {BREEDS}: files are named BREED_NUMBER.jpg"
        )
    labels = {kind: label for label, kind in enumerate(breeds)}
    items = sorted((labels[breed(image)], natural(image)) for image in images)
    count = "" if len(items) == PUBLISHED else f" ({len(items):,} of {PUBLISHED:,} images)"
    return Layout(
        name=name + count,
        class_names=tuple(kind.replace("_", " ") for kind in breeds),
        train=tuple((f"images/{image}", label) for label, (_, image) in items),
        test=(),
        lists=lists,
        pad=True,
        groups={"species": tuple(int(not kind[0].isupper()) for kind in breeds)},
    )


def _check_list(path: Path, found: Layout) -> None:
    """Refuse a list that says something else than the files' names: image, class id, species, breed id."""
    species = found.groups["species"]
    labels = {kind.replace(" ", "_"): label for label, kind in enumerate(found.class_names)}
    seen: Counter[int] = Counter()
    for number, line in enumerate(path.read_text(encoding="utf8").splitlines(), 1):
        if line.startswith("#") or not line.strip():
            continue
        image, *ids = line.split()
        label = labels.get(breed(image))
        expected = None if label is None else [str(label + 1), str(species[label] + 1)]
        if label is None or ids[:2] != expected:
            raise CbnormError(
                f"{path}, line {number}, is broken: {line[:60]!r} (image, class id, species, breed id)"
            )
        seen[label] += 1
    if len(seen) != BREEDS:
        raise CbnormError(f"{path} names {len(seen)} breeds, not {BREEDS}")
