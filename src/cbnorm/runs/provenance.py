"""Where and with what a run was computed: recorded, never part of its identity."""

import platform
import re
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import cbnorm
from cbnorm.config.choices import from_packages
from cbnorm.config.schema import RunConfig
from cbnorm.machine import computes_bfloat16, cores, cpu_name
from cbnorm.norms.native import in_use

_PACKAGES = ("torch", "torchvision", "lightning", "hydra-core", "omegaconf", "numpy", "scikit-learn")


def versions(config: RunConfig) -> dict[str, str]:
    """Versions of Python, of this package (with the commit, in a checkout), of the libraries and plugins."""
    found = {"python": platform.python_version(), "cbnorm": cbnorm.__version__}
    commit = _commit()
    if commit:
        found["commit"] = commit
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found | {plugin.package: plugin.version for plugin in from_packages(config)}


def hardware(device: torch.device) -> dict[str, Any]:
    """The device that trained, and its machine."""
    found: dict[str, Any] = {
        "device": device.type,
        "cpu": cpu_name(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        # Which kernels torch chooses on this processor; others round differently.
        "instructions": torch.backends.cpu.get_cpu_capability(),
        # Kernels and plain tensor code differ in the last bits.
        "norm_kernels": "native" if in_use() else "plain",
        # Autocast's kernels and float32's between rounded values add in another order.
        "bfloat16": "native" if device.type != "cpu" or computes_bfloat16() else "rounded float32",
        "system": platform.system(),
    }
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
        found["cuda"], found["cudnn"] = torch.version.cuda, torch.backends.cudnn.version()
    return found


@cache
def _commit() -> str | None:
    """Commit of the checkout that this code runs from, marked when files were changed since.

    Asked once: the checkout may move on while this process goes on with the code that it began with.
    """
    root = Path(cbnorm.__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return _archived(root)
    try:
        answer = subprocess.run(
            ["git", "-C", str(root), *["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None


def _archived(root: Path) -> str | None:
    """Commit of an archive that git made, which writes it into a file of its own."""
    try:
        commit = (root / ".commit").read_text(encoding="utf8").strip()
    except OSError:
        return None
    return commit[:12] if re.fullmatch("[0-9a-f]{7,40}", commit) else None
