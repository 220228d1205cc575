#!/usr/bin/env python3
"""Packs everything that a machine without network needs to train, in parts of at most 60 MB.

    make gpu-bundle ARGS="data=cifar10,cifar100 python=3.12 without=torch,optional to=dist/gpu-bundle"

`data` names data sets whose files are verified (empty: none), `python` the version there, `without` packages
that are there already or not needed: ``torch`` stands for torch, torchvision and all that they bring along,
``optional`` for what training never imports (digits, tables of verdicts and W&B do). The committed source
goes in, not what lies changed beside it.
"""

import hashlib
import importlib.metadata
import io
import json
import lzma
import math
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import gpu_start as start
import numpy as np
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

from cbnorm.data import catalog, sources

ROOT = Path(__file__).resolve().parents[1]
PART = 60_000_000
#: Images per sheet: sheets of about 8 MB fill the parts evenly.
_COLUMNS = 100
_PER_SHEET = 5_000
_PIXELS = 3 * start.SIDE**2
_PLATFORMS = (
    "manylinux_2_28",
    "manylinux_2_27",
    "manylinux_2_24",
    "manylinux_2_17",
    "manylinux2014",
    "manylinux1",
)
_OPTIONAL = ("wandb", "pandas", "scipy", "scikit-learn")
_DEFAULTS = {"data": "cifar10", "python": "3.12", "without": "torch,optional"} | {
    "to": str(ROOT / "dist" / "gpu-bundle")
}


def main(words: list[str]) -> None:
    """Make the bundle and say how large it is."""
    options = _DEFAULTS | dict(word.partition("=")[::2] for word in words)
    if unknown := sorted(options.keys() - _DEFAULTS.keys()):
        raise SystemExit(f"unknown option {unknown[0]}: use {', '.join(_DEFAULTS)}")
    to = Path(options["to"])
    if to.exists() and not (to / "part-01" / "manifest.json").exists() and any(to.iterdir()):
        raise SystemExit(f"{to} holds something else: name another folder with to=FOLDER")
    shutil.rmtree(to, ignore_errors=True)
    files: dict[str, bytes] = {}
    keys, without = ([word for word in options[key].split(",") if word] for key in ("data", "without"))
    manifest = {
        "source": _file("source.tar.xz", source(), files),
        "wheels": [_file(name, data, files) for name, data in wheels(options["python"], without)],
        "data": [item for key in keys for item in coded_files(catalog.find(key), files)],
    }
    own = {
        "manifest.json": json.dumps(manifest, indent=1).encode(),
        "start.py": (ROOT / "scripts" / "gpu_start.py").read_bytes(),
    }
    sizes = write(to, own, files)
    total = sum(sizes) / 1e6
    print(
        f"{to}: {len(sizes)} parts of {', '.join(f'{size / 1e6:.1f}' for size in sizes)} MB, {total:.1f} MB"
    )
    print(f"there: python3 {to.name}/part-01/start.py campaign table5 budget=full seeds=0..4 time_limit=540")


def _file(name: str, data: bytes, files: dict[str, bytes]) -> dict[str, Any]:
    """Enter a file, in pieces if it is larger than a part."""
    # Room for the manifest, should the piece be in its part.
    room = PART - 1_000_000
    pieces = [name] if len(data) <= room else [f"{name}.{n:02}" for n in range(math.ceil(len(data) / room))]
    for number, piece in enumerate(pieces):
        files[piece] = data[number * room : (number + 1) * room]
    return {"name": name, "pieces": pieces, "sha256": hashlib.sha256(data).hexdigest()}


def source() -> bytes:
    """The committed source that a run needs."""
    wanted = [
        ".commit",
        "src",
        "conf",
        "experiments",
        "pyproject.toml",
        "constraints.txt",
        "LICENSE",
        "README.md",
    ]
    command = ["git", "-C", str(ROOT), "archive", "--format=tar", "HEAD", *wanted]
    return lzma.compress(subprocess.run(command, check=True, capture_output=True).stdout)


def wheels(python: str, without: Iterable[str]) -> list[tuple[str, bytes]]:
    """The wheels of what cbnorm needs, for a Linux machine with that Python."""
    left_out = {canonicalize_name(name) for name in without}
    if "torch" in left_out:
        left_out |= needed("torch") | needed("torchvision")
    if "optional" in left_out:
        left_out |= set(_OPTIONAL)
    names = sorted(needed("cbnorm", left_out) - {"cbnorm"})
    wanted = [f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in names]
    with tempfile.TemporaryDirectory() as folder:
        _download(wanted, python, folder)
        return [(path.name, path.read_bytes()) for path in sorted(Path(folder).glob("*.whl"))]


def needed(name: str, without: Collection[str] = ()) -> set[str]:
    """A package and all that it requires, as far as it is installed here; some and their needs left out."""
    found: set[str] = set()
    waiting = [canonicalize_name(name)]
    while waiting:
        current = waiting.pop()
        try:
            requires = importlib.metadata.requires(current) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        if current not in found and current not in without:
            found.add(current)
            needs = map(Requirement, requires)
            waiting += [
                canonicalize_name(r.name) for r in needs if not r.marker or r.marker.evaluate({"extra": ""})
            ]
    return found


def _download(wanted: list[str], python: str, folder: str) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    platforms = [word for name in _PLATFORMS for word in ("--platform", f"{name}_x86_64")]
    target = ["--only-binary=:all:", "--python-version", python, "--implementation", "cp", *platforms]
    download = [*pip, "download", "--no-deps", "-d", folder, *target]
    as_source: list[str] = []
    while True:
        rest = [requirement for requirement in wanted if requirement not in as_source]
        answer = subprocess.run([*download, *rest], capture_output=True, text=True, check=False)
        if not answer.returncode:
            break
        missing = re.search(r"No matching distribution found for (\S+)", answer.stderr)
        if missing is None or missing[1] not in rest:
            raise SystemExit(f"pip can't download the wheels: {answer.stderr.strip().splitlines()[-1]}")
        as_source.append(missing[1])
    for requirement in as_source:
        # In the registry as source only: its wheel must be one for any machine.
        subprocess.run([*pip, "wheel", "--no-deps", "-w", folder, requirement], check=True)
        built = max(Path(folder).glob("*.whl"), key=lambda path: path.stat().st_mtime)
        if not built.name.endswith("-none-any.whl"):
            raise SystemExit(f"there is no wheel of {requirement} for Python {python}")


def coded_files(entry: Any, files: dict[str, bytes]) -> list[dict[str, Any]]:
    """Every file of a data set, coded without loss; each is decoded again before it is trusted."""
    if not entry.files:
        raise SystemExit(f"{entry.key} has no files of a fixed content to be packed")
    folder = sources.ensure(entry.key)
    found = []
    for file in entry.files:
        data = (folder / file.name).read_bytes()
        layout, parts = coded(data)
        name = f"{entry.folder}/{file.name}"
        if start.decode(layout, parts) != data or start.sha1(data) != file.sha1:
            raise SystemExit(f"{name} did not survive its coding, or is not what its authors published")
        flat = name.replace("/", "-")
        entered = [_file(f"{flat}.{n:02}.bin", part, files) for n, part in enumerate(parts)]
        found.append(layout | {"name": name, "sha1": file.sha1, "parts": entered})
    return found


def coded(data: bytes) -> tuple[dict[str, int], list[bytes]]:
    """A file as xz of all that is no pixel, and sheets of its images as lossless WebP.

    Images of 32x32 pixels, channel by channel, are found where the whole file is records of a label and an
    image (CIFAR-10), or in the longest string of a pickle (CIFAR-100). Other files are xz alone.
    """
    head, count, lead = _images(data)
    if not count:
        return {}, [lzma.compress(data)]
    end = head + count * (lead + _PIXELS)
    records = np.frombuffer(data[head:end], np.uint8).reshape(count, lead + _PIXELS)
    rest = data[:head] + records[:, :lead].tobytes() + data[end:]
    images = records[:, lead:].reshape(count, 3, start.SIDE, start.SIDE)
    sheets = [_sheet(images[first : first + _PER_SHEET]) for first in range(0, count, _PER_SHEET)]
    return {"images": count, "lead": lead, "head": head}, [lzma.compress(rest), *sheets]


def _images(data: bytes) -> tuple[int, int, int]:
    """Where images begin, how many there are, and how many bytes precede each."""
    if data and len(data) % (1 + _PIXELS) == 0:
        return 0, len(data) // (1 + _PIXELS), 1
    for count in (50_000, 10_000):
        # BINSTRING, the opcode of a long string, and its length.
        place = data.find(b"T" + (count * _PIXELS).to_bytes(4, "little"))
        if place >= 0:
            return place + 5, count, 0
    return 0, 0, 0


def _sheet(images: np.ndarray) -> bytes:
    rows = math.ceil(len(images) / _COLUMNS)
    tiles = np.zeros((rows * _COLUMNS, *images.shape[1:]), np.uint8)
    tiles[: len(images)] = images
    sheet = tiles.reshape(rows, _COLUMNS, 3, start.SIDE, start.SIDE).transpose(0, 3, 1, 4, 2)
    picture = Image.fromarray(
        np.ascontiguousarray(sheet.reshape(rows * start.SIDE, _COLUMNS * start.SIDE, 3))
    )
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", lossless=True, method=2, quality=50)
    return buffer.getvalue()


def write(to: Path, own: dict[str, bytes], files: dict[str, bytes]) -> list[int]:
    """Fill parts, the largest files first; the first part holds what starts the rest."""
    parts: list[dict[str, bytes]] = [dict(own)]
    for name, data in sorted(files.items(), key=lambda item: -len(item[1])):
        fitting = (part for part in parts if sum(map(len, part.values())) + len(data) <= PART)
        part = next(fitting, None)
        if part is None:
            part = {}
            parts.append(part)
        part[name] = data
    for number, part in enumerate(parts, 1):
        folder = to / f"part-{number:02}"
        folder.mkdir(parents=True)
        for name, data in part.items():
            (folder / name).write_bytes(data)
    return [sum(map(len, part.values())) for part in parts]


if __name__ == "__main__":
    main(sys.argv[1:])
