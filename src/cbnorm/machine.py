"""Which machine this is, as records name it. Imports no torch."""

import functools
import os
import platform
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_DEVICES = Path("/dev")
_CPUS = Path("/proc/cpuinfo")


@functools.cache
def cpu_name() -> str:
    """The processor's own name; that of its architecture where it has none."""
    return _of_first_core("model name") or platform.processor() or platform.machine()


@functools.cache
def computes_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 faster than float32, as far as it is known.

    On x86 that takes AMX, or AVX-512 with bfloat16 on AMD; Intel's needs twice the time of float32, and
    without either torch needs ten times as much. Elsewhere the processor's own flag is believed.
    """
    flags = (_of_first_core("flags") or _of_first_core("Features")).split()
    amd = _of_first_core("vendor_id") == "AuthenticAMD"
    return "amx_bf16" in flags or "bf16" in flags or (amd and "avx512_bf16" in flags)


def _of_first_core(name: str) -> str:
    """What Linux says of the first core under this name; nothing where it doesn't."""
    try:
        lines = _CPUS.read_text(encoding="utf8").splitlines()
    except OSError:
        return ""
    values = [line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name]
    return values[0] if values else ""


def cores() -> int:
    """How many cores this process may use: fewer than there are where a scheduler gave it some."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory() -> int:
    """Bytes of memory that this process may use: less than there are in a container or a scheduler's job."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    groups = ""
    with suppress(OSError):
        groups = Path("/proc/self/cgroup").read_text(encoding="utf8")
    return min([physical, *_limits(groups, Path("/sys/fs/cgroup"))])


def _limits(groups: str, root: Path) -> Iterator[int]:
    """What the control groups of a process allow, of version 2 and of version 1."""
    for line in groups.splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers not in {"", "memory"}:
            continue
        folder, name = (root / "memory", "memory.limit_in_bytes") if controllers else (root, "memory.max")
        own = folder / group.lstrip("/")
        for place in (own, *(parent for parent in own.parents if parent.is_relative_to(folder))):
            with suppress(OSError, ValueError):  # "max" is no limit
                yield int((place / name).read_text(encoding="utf8"))


def has_gpu() -> bool:
    """Whether there is a GPU that may be used, without asking torch, which would take hold of it."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip()
    there = any(_DEVICES.glob("nvidia[0-9]*")) or (_DEVICES / "dxg").exists()
    return there and shown not in {"", "NoDevFiles"} and not shown.startswith("-") and not _without_cuda()


def _without_cuda() -> bool:
    """Whether this torch was built for the CPU alone, as far as its version tells."""
    try:
        return version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return True


@functools.cache
def gpu_name() -> str | None:
    """The first GPU's own name, as its driver tells it."""
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        with suppress(OSError):
            for line in path.read_text(encoding="utf8").splitlines():
                if line.startswith("Model:"):
                    return line.partition(":")[2].strip()
    return None


def device_of(accelerator: str) -> str:
    """``cuda`` or ``cpu``: where runs with this setting of ``trainer.accelerator`` train."""
    return "cuda" if accelerator == "gpu" or (accelerator == "auto" and has_gpu()) else "cpu"
