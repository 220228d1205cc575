#!/usr/bin/env python3
"""Sets a bundle of `make gpu-bundle` up on a machine without network and carries a command of cbnorm out.

    python3 part-01/start.py [to=FOLDER] [out=FOLDER] [words of cbnorm ...]

For instance ``python3 part-01/start.py out=/tmp/out campaign table5 budget=full seeds=0..4 time_limit=540``.
The other parts lie beside part-01. Everything is unpacked and verified below `to` (default: ./cbnorm-bundle),
once. A ``time_limit=`` counts from here, set-up included. What the store holds afterwards is left in `out` as
``store.tar.gz.000``, ...; when such files lie there, or in part-01, before, the store goes on from them.
Ctrl-C and SIGTERM end the command in good order, and what it saved is left in `out` all the same.
It needs Python 3.11 with pip and, unless the bundle has it, torch.
"""

import hashlib
import io
import json
import lzma
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Self

#: What comes back from some borrowed machines is limited per file.
PIECE = 15_000_000
SIDE = 32
_PIECES = "store.tar.gz.*"
#: Holds a whole newer store whose pieces have yet to take the places of older ones.
_NEWER = "store.new"


def main() -> int:
    """Set up, restore the store, run, and leave the store, also when asked to stop.

    Returns:
        The status of the command of cbnorm, or 2 when what was asked is refused.

    Raises:
        SystemExit: The bundle or a store is damaged, or the store can't be packed.
    """
    began = time.monotonic()
    here = Path(__file__).resolve().parent
    if not (here / "manifest.json").is_file():
        say(f"{here} is no part of a bundle: make gpu-bundle makes one, with this script in it as start.py")
        return 2
    try:
        own, words = split(sys.argv[1:])
        words = spelled(words or ["campaign", "table5", "budget=smoke", "time_limit=300"])
        to = Path(own.get("to", "cbnorm-bundle")).resolve()
        out = Path(own.get("out", to / "out")).resolve()
        for folder in (to, out):
            folder.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        say(str(error))
        return 2
    manifest = json.loads((here / "manifest.json").read_text(encoding="utf8"))
    set_up(manifest, here.parent, to)
    store = to / "runs"
    for place in (out, here):
        if not store.exists():
            restore(place, store)
    say(f"ready after {time.monotonic() - began:.1f} s: cbnorm {' '.join(words)}")
    with Stop() as stop:
        try:
            status = run(adjusted(words, store, began), to, stop)
        finally:
            leave(store, out)
    where = f"the store is in {out}" if store.exists() else "there is no store to leave"
    say(f"done after {time.monotonic() - began:.1f} s; {where}")
    return status


def split(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """The words of this script, which come first, and those of cbnorm.

    Args:
        words: All of them.

    Returns:
        What `to` and `out` are, where given, and the other words.

    Raises:
        ValueError: One of them names no folder.
    """
    own: dict[str, str] = {}
    while words and words[0].startswith(("to=", "out=")):
        key, _, value = words[0].partition("=")
        if not value:
            raise ValueError(f"{key}= needs a folder: write {key}=FOLDER")
        own[key], words = value, words[1:]
    return own, words


def spelled(words: list[str]) -> list[str]:
    """The words of cbnorm with time limits in the form ``time_limit=540``, verified.

    Args:
        words: Also with ``--time-limit 540`` or ``--time-limit=540``, which cbnorm takes too.

    Returns:
        As many words, or one less for each limit in two words.

    Raises:
        ValueError: One line that says why a limit is none.
    """
    found = []
    rest = iter(words)
    for word in rest:
        key, equals, value = word.partition("=")
        if key == "--time-limit":
            value = value if equals else next(rest, "")
        elif key != "time_limit":
            found.append(word)
            continue
        try:
            seconds = float(value)
        except ValueError:
            seconds = 0.0
        if not 0 < seconds < float("inf"):
            raise ValueError(f"time_limit={value} must be a number of seconds, such as 540")
        found.append(f"time_limit={value}")
    return found


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
    # Whole or absent: half of it would end the next session.
    part = ready.with_suffix(".part")
    part.write_text(json.dumps(manifest), encoding="utf8")
    part.replace(ready)


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


class Stop:
    """Lets Ctrl-C and SIGTERM end the command in good order, and never what is done after it."""

    def __init__(self) -> None:
        self._asked = False
        self._command: subprocess.Popen[bytes] | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def wait(self, command: subprocess.Popen[bytes]) -> int:
        """Hand requests on to a command until it ends.

        Args:
            command: What has just been started.

        Returns:
            Its status, as a shell gives it.
        """
        self._command = command
        if self._asked:  # while it was being started
            command.terminate()
        status = command.wait()
        return status if status >= 0 else 128 - status

    def _request(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True
        if self._command is not None:
            # Never SIGINT: Ctrl-C reaches the command by itself, and a second one makes cbnorm end unsaved.
            self._command.terminate()


def run(words: list[str], to: Path, stop: Stop) -> int:
    """Carry a command of cbnorm out, with the bundle's source, packages and data.

    Args:
        words: Of the command.
        to: Where the bundle is unpacked.
        stop: What may end the command early.

    Returns:
        The command's status.
    """
    path = os.pathsep.join([str(to / "source" / "src"), str(to / "site"), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {
        "PYTHONPATH": path.rstrip(os.pathsep),
        "CBNORM_DATA_DIR": str(to / "data"),
        "WANDB_MODE": "offline",
    }
    with subprocess.Popen([sys.executable, "-m", "cbnorm", *words], env=environment) as command:
        return stop.wait(command)


def leave(store: Path, out: Path) -> None:
    """Pack the store in pieces: records, histories, and of unfinished runs the newest checkpoint.

    Killed at any moment, it leaves a whole store for :func:`restore`: that of before, or this one.

    Args:
        store: Where the runs are; if nowhere, what `out` holds stays.
        out: Where the pieces go, in place of those that are there.

    Raises:
        SystemExit: The store can't be packed; the pieces of before are still there.
    """
    if not store.exists():
        return
    partial = out / "store.part"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir()
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=3) as archive:
            for path in kept(store):
                archive.add(path, str(path.relative_to(store)), recursive=False)
        data = packed.getvalue()
        for number, first in enumerate(range(0, len(data), PIECE)):
            (partial / f"store.tar.gz.{number:03}").write_bytes(data[first : first + PIECE])
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise SystemExit(
            f"the store is not packed ({error}): it stays in {store}, and {out} holds what it held before"
        ) from error
    # An earlier session may have been killed while it put its pieces in place.
    put_in_place(out)
    partial.rename(out / _NEWER)
    put_in_place(out)


def put_in_place(out: Path) -> None:
    """Let the pieces of a newer store replace the older ones, or go on with that after a kill.

    Args:
        out: Where both are; without newer ones nothing happens.
    """
    newer = out / _NEWER
    if not newer.exists():
        return
    names = sorted(piece.name for piece in newer.glob(_PIECES))
    # The last newer piece moves last, so that after a kill, too, it tells which older ones are too many.
    for old in out.glob(_PIECES):
        if names and old.name > names[-1]:
            old.unlink()
    for name in names:
        (newer / name).replace(out / name)
    newer.rmdir()


def kept(store: Path) -> Iterator[Path]:
    """Files of a store that say something elsewhere."""
    left_out = {"claim.json", ".claim.lock", "checkpoint.previous.pt", "checkpoint.damaged.pt"}
    for path in sorted(store.rglob("*")):
        if path.is_file() and path.name not in left_out and not path.name.endswith(".part"):
            yield path


def restore(place: Path, store: Path) -> None:
    """Put a store back that an earlier session left, whole or not at all.

    Args:
        place: Where its pieces are; without any, nothing happens.
        store: Where it goes, and nothing is yet.

    Raises:
        SystemExit: The pieces are damaged, or some are missing.
    """
    # Where a session was killed while it put pieces in place, the newer ones count.
    found = {piece.name: piece for folder in (place, place / _NEWER) for piece in folder.glob(_PIECES)}
    if not found:
        return
    partial = store.with_name(f"{store.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        packed = b"".join(found[name].read_bytes() for name in sorted(found))
        with tarfile.open(fileobj=io.BytesIO(unzipped(packed))) as archive:
            archive.extractall(partial, filter="data")
    except (zlib.error, tarfile.TarError) as error:
        raise SystemExit(
            f"the store in {place} is damaged ({error}): copy its {_PIECES} again, or remove them"
        ) from error
    partial.mkdir(exist_ok=True)  # for a store without files
    partial.rename(store)
    say(f"the store goes on from {place}")


def unzipped(data: bytes) -> bytes:
    """What was packed, verified to its end, which tarfile does not read.

    Args:
        data: In the format of gzip. What follows its end is ignored: a piece of an older, larger store, say.

    Returns:
        All of it.

    Raises:
        zlib.error: It is damaged, or its end is missing.
    """
    unzip = zlib.decompressobj(wbits=31)  # with the header and checksum of gzip
    found = unzip.decompress(data)
    if not unzip.eof:
        raise zlib.error("its end is missing")
    return found


def say(text: str) -> None:
    """A line for who watches."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
