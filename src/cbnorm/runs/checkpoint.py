"""Checkpoints of an unfinished run: plain data, whole or recognised as damaged, the one before kept."""

import hashlib
import io
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from cbnorm.errors import CbnormError
from cbnorm.runs.files import write_bytes
from cbnorm.runs.store import CHECKPOINTS

_KIND = b"cbnorm checkpoint "
_VERSION = 1


def save(folder: Path, state: dict[str, Any]) -> None:
    """Save a state of tensors and plain data; the checkpoint before it stays as a fallback."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getvalue()
    header = _KIND + f"{_VERSION} {hashlib.sha256(data).hexdigest()}\n".encode()
    newest, previous = (folder / name for name in CHECKPOINTS)
    write_bytes(newest, header + data, keep=previous)


def states(folder: Path, *, run: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The whole checkpoints of a run, the newest first.

    Damaged ones, those of another run, and those that hold anything but tensors and plain data are set aside
    with a line on stderr: they must not push out the older one when the next is saved.

    Args:
        folder: The run's folder.
        run: The run's id.

    Raises:
        CbnormError: If a checkpoint comes from a later version.
    """
    for name in CHECKPOINTS:
        path = folder / name
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            set_aside(path, error.strerror or str(error))
            continue
        try:
            state = _decode(content, path, run)
        except ValueError as error:
            set_aside(path, str(error))
            continue
        yield path, state


def set_aside(path: Path, reason: str) -> None:
    """Keep a checkpoint that can't be used out of the way, and say so."""
    aside = path.with_name("checkpoint.damaged.pt")
    print(f"cbnorm: {path} can't be used ({reason}): moved to {aside.name}", file=sys.stderr, flush=True)
    with suppress(OSError):
        path.replace(aside)


def _decode(content: bytes, path: Path, run: str) -> dict[str, Any]:
    header, _, data = content.partition(b"\n")
    version, _, checksum = header.removeprefix(_KIND).partition(b" ")
    if not header.startswith(_KIND) or not version.isdigit():
        raise ValueError("damaged")
    if int(version) > _VERSION:
        raise CbnormError(
            f"{path} was written by a later cbnorm: update it, or remove the file to train the run anew"
        )
    if checksum != hashlib.sha256(data).hexdigest().encode():
        raise ValueError("damaged")
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # the archive's and the unpickler's errors have no common base
        raise ValueError("it holds more than tensors and plain data, or is damaged") from error
    if not isinstance(state, dict) or state.get("run") != run:
        raise ValueError("it belongs to another run")
    return state
