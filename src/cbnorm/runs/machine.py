"""Which machine this is, as records name it. Imports no torch."""

import functools
import os
import platform
from pathlib import Path


@functools.cache
def cpu_name() -> str:
    """The processor's own name; that of its architecture where it has none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def has_gpu() -> bool:
    """Whether there is a GPU that may be used, without asking torch, which would take hold of it."""
    return Path("/dev/nvidia0").exists() and os.environ.get("CUDA_VISIBLE_DEVICES") != ""


def device_of(accelerator: str) -> str:
    """``cuda`` or ``cpu``: where runs with this setting of ``trainer.accelerator`` train."""
    return "cuda" if accelerator == "gpu" or (accelerator == "auto" and has_gpu()) else "cpu"
