#!/usr/bin/env python3
"""Sets a bundle of `make gpu-bundle` up on a machine without network and carries a command of cbnorm out.

    python3 part-01/start.py [to=FOLDER] [out=FOLDER] [words of cbnorm ...]

For instance ``python3 part-01/start.py out=/tmp/out campaign table5 budget=full seeds=0..4 time_limit=540``.
The other parts lie beside part-01. Everything is unpacked and verified below `to` (default: ./cbnorm-bundle),
once. A ``time_limit=`` counts from here, set-up included. What the store holds afterwards is left in `out` as
``store.tar.gz.000``, ...; when such files lie there, or in part-01, before, the store goes on from them.
It needs Python 3.11 with pip and, unless the bundle has it, torch.
"""

import hashlib
import io
import json
import lzma
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: What comes back from some borrowed machines is limited per file.
PIECE = 15_000_000
SIDE = 32


def main() -> int:
    """Set up, restore the store, run, leave the store."""
    began = time.monotonic()
    own, words = split(sys.argv[1:])
    here = Path(__file__).resolve().parent
    to = Path(own.get("to", "cbnorm-bundle")).resolve()
    out = Path(own.get("out", to / "out")).resolve()
    if not (here / "manifest.json").is_file():
        say(f"{here} is no part of a bundle: make gpu-bundle makes one, with this script in it as start.py")
        return 2
    out.mkdir(parents=True, exist_ok=True)
    manifest = json.loads((here / "manifest.json").read_text(encoding="utf8"))
    set_up(manifest, here.parent, to)
    store = to / "runs"
    for place in (out, here):
        if not store.exists():
            restore(place, store)
    words = words or ["campaign", "table5", "budget=smoke", "time_limit=300"]
    say(f"ready after {time.monotonic() - began:.1f} s: cbnorm {' '.join(words)}")
    status = run(adjusted(words, store, began), to)
    leave(store, out)
    say(f"done after {time.monotonic() - began:.1f} s; the store is in {out}")
    return status


def split(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """The words of this script, which come first, and those of cbnorm."""
    own: dict[str, str] = {}
    while words and words[0].startswith(("to=", "out=")):
        key, _, value = words[0].partition("=")
        own[key], words = value, words[1:]
    return own, words


def set_up(manifest: dict[str, Any], parts: Path, to: Path) -> None:
    """Unpack what is not there yet: source, packages, data."""
    found = {path.name: path for path in parts.glob("part-*/*")}
    ready = to / "ready.json"
    if ready.exists() and json.loads(ready.read_text(encoding="utf8")) == manifest:
        return
    to.mkdir(parents=True, exist_ok=True)
    source = io.BytesIO(joined(manifest["source"], found))
    with tarfile.open(fileobj=source) as archive:
        archive.extractall(to / "source", filter="data")
    wheels = to / "wheels"
    wheels.mkdir(exist_ok=True)
    for wheel in manifest["wheels"]:
        (wheels / wheel["name"]).write_bytes(joined(wheel, found))
    install(sorted(wheels.glob("*.whl")), to / "site")
    sys.path.insert(0, str(to / "site"))
    for item in manifest["data"]:
        unpack(item, found, to / "data")
    ready.write_text(json.dumps(manifest), encoding="utf8")


def joined(item: dict[str, Any], found: dict[str, Path]) -> bytes:
    """A file of the bundle from its pieces, verified."""
    missing = [name for name in item["pieces"] if name not in found]
    if missing:
        raise SystemExit(f"{missing[0]} is missing: put all parts of the bundle beside each other")
    data = b"".join(found[name].read_bytes() for name in item["pieces"])
    if hashlib.sha256(data).hexdigest() != item["sha256"]:
        raise SystemExit(f"{item['name']} is damaged: copy the bundle again")
    return data


def install(wheels: list[Path], site: Path) -> None:
    """Install the wheels, and nothing else, into a folder of their own."""
    if not wheels:
        return
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
    options = ["--disable-pip-version-check", "--no-cache-dir", "--upgrade", "--target", str(site)]
    subprocess.run([*command, *options, *map(str, wheels)], check=True)


def unpack(item: dict[str, Any], found: dict[str, Path], root: Path) -> None:
    """Write a file of a data set as its authors published it, or stop."""
    target = root / item["name"]
    if (
        target.exists()
        and hashlib.sha1(target.read_bytes(), usedforsecurity=False).hexdigest() == item["sha1"]
    ):
        return
    data = decode(item, [joined(part, found) for part in item["parts"]])
    if sha1(data) != item["sha1"]:
        raise SystemExit(f"{item['name']} is not what its authors published: make the bundle again")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)


def sha1(data: bytes) -> str:
    """The checksum by which data sets are known."""
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def decode(item: dict[str, Any], parts: list[bytes]) -> bytes:
    """A file from its coded parts: what is no pixel by xz, then sheets of images as lossless WebP."""
    rest = lzma.decompress(parts[0])
    if "images" not in item:
        return rest
    import numpy as np

    count, lead, head = item["images"], item["lead"], item["head"]
    records = np.empty((count, lead + 3 * SIDE * SIDE), np.uint8)
    middle = head + count * lead
    records[:, :lead] = np.frombuffer(rest[head:middle], np.uint8).reshape(count, lead)
    first = 0
    for part in parts[1:]:
        tiles = from_sheet(part)[: count - first]
        records[first : first + len(tiles), lead:] = tiles.reshape(len(tiles), -1)
        first += len(tiles)
    return rest[:head] + records.tobytes() + rest[middle:]


def from_sheet(data: bytes) -> Any:
    """The images of a sheet, uint8 (N, 3, SIDE, SIDE), row by row."""
    import numpy as np
    from PIL import Image

    sheet = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    rows, columns = sheet.shape[0] // SIDE, sheet.shape[1] // SIDE
    tiles = sheet.reshape(rows, SIDE, columns, SIDE, 3).transpose(0, 2, 4, 1, 3)
    return tiles.reshape(rows * columns, 3, SIDE, SIDE)


def adjusted(words: list[str], store: Path, began: float) -> list[str]:
    """The words with this bundle's store, and with the time that is left."""
    found = []
    for word in words:
        key, _, value = word.partition("=")
        if key == "time_limit":
            # A little is kept for packing the store.
            left = float(value) - (time.monotonic() - began) - 5
            found.append(f"time_limit={max(1.0, left):.0f}")
        else:
            found.append(word)
    return found if any(word.startswith("store=") for word in found) else [*found, f"store={store}"]


def run(words: list[str], to: Path) -> int:
    """Carry a command of cbnorm out, with the bundle's source, packages and data."""
    path = os.pathsep.join([str(to / "source" / "src"), str(to / "site"), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {
        "PYTHONPATH": path.rstrip(os.pathsep),
        "CBNORM_DATA_DIR": str(to / "data"),
        "WANDB_MODE": "offline",
    }
    return subprocess.run([sys.executable, "-m", "cbnorm", *words], env=environment, check=False).returncode


def leave(store: Path, out: Path) -> None:
    """Pack the store in pieces: records, histories, and of unfinished runs the newest checkpoint."""
    for old in out.glob("store.tar.gz.*"):
        old.unlink()
    if not store.exists():
        return
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=3) as archive:
        for path in kept(store):
            archive.add(path, str(path.relative_to(store)), recursive=False)
    data = packed.getvalue()
    for number, first in enumerate(range(0, len(data), PIECE)):
        (out / f"store.tar.gz.{number:03}").write_bytes(data[first : first + PIECE])


def kept(store: Path) -> Iterator[Path]:
    """Files of a store that say something elsewhere."""
    left_out = {"claim.json", ".claim.lock", "checkpoint.previous.pt", "checkpoint.damaged.pt"}
    for path in sorted(store.rglob("*")):
        if path.is_file() and path.name not in left_out and not path.name.endswith(".part"):
            yield path


def restore(place: Path, store: Path) -> None:
    """Put a store back that an earlier session left."""
    pieces = sorted(place.glob("store.tar.gz.*"))
    if not pieces:
        return
    with tarfile.open(fileobj=io.BytesIO(b"".join(piece.read_bytes() for piece in pieces))) as archive:
        archive.extractall(store, filter="data")
    say(f"the store goes on from {place}")


def say(text: str) -> None:
    """A line for who watches."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
