"""The decoded images of an open data set, kept as arrays that can be mapped into memory.

Imports no torch.
"""

import hashlib
import io
import json
import struct
import tempfile
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
from PIL import Image, ImageOps, UnidentifiedImageError

from cbnorm.data.files import appear, remove
from cbnorm.data.layout import Layout
from cbnorm.data.locks import exclusive
from cbnorm.data.manifest import Manifest, read_bytes
from cbnorm.data.progress import Reporter
from cbnorm.errors import CbnormError

_BROKEN = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    IndexError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


class Prepared(NamedTuple):
    """Decoded images in the order of their layout.

    Attributes:
        train: uint8 (N, 3, H, W), mapped into memory.
        test: The same for the test images; none where the layout names none.
        checksums: Of the decoded pixels and the library that decoded them, by name.
    """

    train: np.ndarray
    test: np.ndarray
    checksums: dict[str, str]


def prepare(key: str, folder: Path, root: Path, layout: Layout, known: Manifest, shown: Reporter) -> Prepared:
    """Return the decoded images, decoding them unless that was done before.

    They appear whole or not at all, and of several processes one decodes while the others wait.

    Args:
        key: The data set's key.
        folder: Where the files are.
        root: Where prepared arrays are kept.
        layout: Which files are images.
        known: What the files hold.
        shown: Says what goes on.

    Raises:
        CbnormError: An image is broken or has another size, or ``root`` can't be written.
    """
    decided = [layout.train, layout.test, layout.side, *(["pad"] if layout.pad else [])]
    arrangement = hashlib.sha256(json.dumps(decided).encode()).hexdigest()
    target = root / f"{key}-{known.digest[:16]}-{arrangement[:8]}"
    if not target.is_dir():
        try:
            root.mkdir(parents=True, exist_ok=True)
            waiting = f"waiting for another process that decodes {layout.name}"
            with exclusive(root / f"{key}.lock", lambda: shown.begin(waiting)) as held:
                if held:
                    # Left behind by a process that was killed; nobody else can be at work here.
                    remove(root.glob(f"unfinished-{key}-*"))
                if not target.is_dir():
                    _decode_all(key, folder, target, layout, known, shown)
        except OSError as error:
            raise CbnormError(
                f"{layout.name} can't be prepared in {root} ({error}); set CBNORM_DATA_DIR"
            ) from error
    return _open(target, tests=bool(layout.test))


def _decode_all(
    key: str, folder: Path, target: Path, layout: Layout, known: Manifest, shown: Reporter
) -> None:
    sizes = {line.name: line.size for line in known.lines}
    parts = {"train": layout.train, "test": layout.test}
    shown.begin(f"decoding {layout.name}", sum(sizes[name] for part in parts.values() for name, _ in part))
    checksums = {"pillow": PIL.__version__}
    with tempfile.TemporaryDirectory(prefix=f"unfinished-{key}-", dir=target.parent) as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        for part, items in parts.items():
            if not items:
                continue
            names = [name for name, _ in items]
            images = _decoded(folder, names, layout, known)
            checksums[part] = _store(made / f"{part}.npy", len(names), images, shown)
        (made / "checksums.json").write_text(json.dumps(checksums), encoding="utf8")
        appear(made, target)


def _decoded(
    folder: Path, names: Sequence[str], layout: Layout, known: Manifest
) -> Iterator[tuple[np.ndarray, int]]:
    """Yield each image with the size of its file."""
    expected, first = known.checksums, None
    for name in names:
        raw = read_bytes(folder / name)
        if hashlib.sha1(raw, usedforsecurity=False).hexdigest() != expected[name]:
            raise CbnormError(f"{folder / name} changed while it was read; try again")
        image = decode(raw, folder / name, layout.side, layout.pad)
        first = first or image.shape
        if image.shape != first:
            found, others = (f"{height}x{width}" for _, height, width in (image.shape, first))
            raise CbnormError(f"{folder / name} has {found} pixels, others {others}")
        yield image, len(raw)


def _store(target: Path, count: int, images: Iterator[tuple[np.ndarray, int]], shown: Reporter) -> str:
    """Write images into one array file; return the checksum of all pixels."""
    pixels = hashlib.sha1(usedforsecurity=False)
    # Written, not mapped: a full disk is an error then, and not a killed process.
    with target.open("xb") as file:
        for image, size in images:
            if not file.tell():
                header = {"descr": "|u1", "fortran_order": False, "shape": (count, *image.shape)}
                np.lib.format.write_array_header_1_0(file, header)
            raw = image.tobytes()
            file.write(raw)
            pixels.update(raw)
            shown.advance(size)
    return f"sha1:{pixels.hexdigest()}"


def decode(raw: bytes, path: Path, side: int | None, pad: bool = False) -> np.ndarray:
    """Decode an image file.

    Args:
        raw: Its content.
        path: Its name, for the message.
        side: Scale the shorter side to this length and cut a square from the centre, the camera's
            note of which side is up respected; None: keep all pixels as they are.
        pad: Scale the longer side instead, and fill up with black, see :func:`padded`.

    Returns:
        uint8 (3, H, W); grey images have three equal channels.

    Raises:
        CbnormError: The file is broken.
    """
    try:
        # Images may be odd in ways that don't matter; what can't be decoded is an error.
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(raw)) as image:
            fit = padded if pad else square
            rgb = _rgb(image) if side is None else fit(_rgb(ImageOps.exif_transpose(image)), side)
    except _BROKEN as error:
        gist = (str(error).splitlines() or [type(error).__name__])[0]
        if isinstance(error, UnidentifiedImageError):  # its own words are an address in memory
            gist = "it begins like no image"
        raise CbnormError(f"{path} can't be decoded ({gist}); replace or delete it") from error
    return np.ascontiguousarray(np.asarray(rgb).transpose(2, 0, 1))


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"its grey values are of type {image.mode}; save it with 8 bits per channel")
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def square(image: Image.Image, side: int) -> Image.Image:
    """Scale the shorter side to ``side``, keeping the aspect, and cut a square from the centre."""
    width, height = image.size
    shorter = min(width, height)
    left, top = (width - shorter) / 2, (height - shorter) / 2
    box = (left, top, left + shorter, top + shorter)
    return image.resize((side, side), Image.Resampling.BILINEAR, box=box)


def padded(image: Image.Image, side: int) -> Image.Image:
    """Scale the longer side to ``side``, keeping the aspect, in the middle of black.

    TensorFlow's ``resize_with_pad``, which the authors use, but for what lies between pixels when an image
    shrinks: Pillow's bilinear filter grows with the step, so that nothing is skipped.
    """
    longer = max(image.size)
    width, height = (max(1, round(length * side / longer)) for length in image.size)
    whole = Image.new("RGB", (side, side))
    scaled = image.resize((width, height), Image.Resampling.BILINEAR)
    whole.paste(scaled, ((side - width) // 2, (side - height) // 2))
    return whole


def _open(target: Path, *, tests: bool) -> Prepared:
    try:
        # Mapped copy-on-write: torch wants arrays that could be written.
        train = np.load(target / "train.npy", mmap_mode="c")
        test = (
            np.load(target / "test.npy", mmap_mode="c")
            if tests
            else np.empty((0, *train.shape[1:]), np.uint8)
        )
        checksums = json.loads((target / "checksums.json").read_text(encoding="utf8"))
    except (OSError, ValueError) as error:
        raise CbnormError(f"{target} is damaged ({error}): delete it, and it is made anew") from error
    return Prepared(train, test, checksums)
