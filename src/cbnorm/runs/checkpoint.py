"""Checkpoints of an unfinished run: plain data, whole or recognised as damaged, the one before kept."""

import hashlib
import io
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from cbnorm.runs.files import cannot_write, write_bytes

_MAGIC = b"cbnorm checkpoint 1 "
_NAMES = ("checkpoint.pt", "checkpoint.previous.pt")


def save(folder: Path, state: dict[str, Any]) -> None:
    """Save a state of tensors and plain data; the checkpoint before it stays as a fallback."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getvalue()
    newest, previous = (folder / name for name in _NAMES)
    try:
        if newest.exists():
            newest.replace(previous)
    except OSError as error:
        raise cannot_write(previous, error) from error
    write_bytes(newest, _MAGIC + hashlib.sha256(data).hexdigest().encode() + b"\n" + data)


def load(folder: Path, *, run: str) -> dict[str, Any] | None:
    """The newest whole checkpoint of a run, or None.

    Args:
        folder: The run's folder.
        run: The run's id; a checkpoint of another run is not used.
    """
    for name in _NAMES:
        state = _read(folder / name)
        if state is not None and state.get("run") == run:
            return state
    return None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        header, _, data = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    if header != _MAGIC + hashlib.sha256(data).hexdigest().encode():
        return None
    state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return state if isinstance(state, dict) else None


def remove(folder: Path) -> None:
    """Remove the checkpoints of a finished run, and what a killed writer left."""
    for path in (*(folder / name for name in _NAMES), *folder.glob(".*.part")):
        with suppress(OSError):
            path.unlink(missing_ok=True)
