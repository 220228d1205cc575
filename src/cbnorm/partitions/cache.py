"""What was fitted once is read afterwards: entries known by their content, shared between processes."""

import hashlib
import io
import json
import os
import platform
import secrets
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cbnorm.data.locks import exclusive

State = dict[str, Any]
_KIND = b"cbnorm fit 1 "
_PACKAGES = Path(__file__).resolve().parents[1]


class Cache:
    """A folder of fits. Losing it, or any file in it, costs time and nothing else.

    An entry's name is a hash of all that decides its bits: the content that is handed in, the code
    of :mod:`cbnorm.mixtures` and :mod:`cbnorm.partitions`, the version of torch, the processor and
    the number of threads. What is read is therefore what would have been computed here.

    Args:
        folder: Where the entries lie; made when first needed. None: nothing is kept.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder

    def remember(self, content: Mapping[str, Any], make: Callable[[], State]) -> State:
        """The state of that content: read, or made and kept.

        Of several processes that ask for the same at once one makes it, the others wait and read. A
        damaged entry is set aside and made anew. A folder that can't be written is no obstacle.

        Args:
            content: Plain data that decide the state.
            make: Makes it: tensors and plain data. It must not ask for the same content.
        """
        if self.folder is None:
            return make()
        path = self.folder / f"{_digest({**content, **_place()})}.pt"
        if (found := _read(path)) is not None:
            return found
        with ExitStack() as stack:
            with suppress(OSError):
                self.folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(exclusive(path.with_suffix(".lock"), _say_waiting))
            if (found := _read(path)) is not None:
                return found
            made = make()
            _write(path, made)
        return made


def fingerprint(tensor: Tensor) -> str:
    """SHA-256 of a tensor's type, shape and values, in hexadecimal."""
    whole = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{whole.dtype} {tuple(whole.shape)} ".encode())
    digest.update(whole.numpy().tobytes())
    return digest.hexdigest()


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@cache
def code_version(*packages: str) -> str:
    """Hash of the source files of some of cbnorm's packages."""
    digest = hashlib.sha256()
    for path in sorted(path for name in packages for path in (_PACKAGES / name).rglob("*.[pch]*")):
        if path.suffix != ".pyc":
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _place() -> dict[str, Any]:
    return {
        "code": code_version("mixtures", "partitions"),
        "torch": torch.__version__,
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }


@cache
def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _read(path: Path) -> State | None:
    try:
        data = path.read_bytes()
    except OSError:
        return None
    head, _, body = data.partition(b"\n")
    if head == _KIND + hashlib.sha256(body).hexdigest().encode():
        # It is whole, hence what was written; weights_only, because anybody may write to a shared folder.
        with suppress(Exception):
            return dict(torch.load(io.BytesIO(body), map_location="cpu", weights_only=True))
    aside = path.with_suffix(".damaged")
    print(f"cbnorm: {path} is damaged: moved to {aside.name}, fitted again", file=sys.stderr, flush=True)
    with suppress(OSError):
        path.replace(aside)
    return None


def _write(path: Path, state: State) -> None:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    body = buffer.getvalue()
    part = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    try:
        part.write_bytes(_KIND + hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
        part.replace(path)
    except OSError:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _say_waiting() -> None:
    print(f"cbnorm: process {os.getpid()} waits for another that fits the same clusters", file=sys.stderr)
