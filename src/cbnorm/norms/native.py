"""Optional CPU kernels: built from kernels/ when first wanted, never needed to be right.

``CBNORM_NATIVE=0`` in the environment switches them off; without a C++ compiler they are off by themselves.
The built library is kept in ``$CBNORM_CACHE_DIR`` or the user's cache folder, ``~/.cache/cbnorm``.
"""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd import forward_ad

from cbnorm.norms.layout import watched

FLAGS = [
    "-O3",
    "-march=native",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fopenmp",
    "-shared",
    "-fPIC",
    "-std=c++17",
]
if platform.machine().lower() in ("x86_64", "amd64"):
    FLAGS.append("-mprefer-vector-width=512")
#: Smaller tensors are normalized by plain tensor code: nobody waits for a compiler because of a toy.
SMALLEST = 1 << 15
#: Takes 10 s; the limit is generous because a busy machine must not decide which code computes.
BUILD_SECONDS = 900

log = logging.getLogger(__name__)


def wanted(x: Tensor) -> bool:
    """Whether ``x`` (N, C, L) can and should be normalized by the kernels.

    Only plain float32 tensors on the CPU in eager mode: compilers, tracers, ``torch.func`` and forward-mode
    differentiation see the plain definitions.
    """
    return x.dtype == torch.float32 and usable(x)


def usable(x: Tensor) -> bool:
    """As :func:`wanted`, for tensors of any shape and type."""
    return (
        not torch.compiler.is_compiling()
        and not watched()
        and x.device.type == "cpu"
        and x.numel() >= SMALLEST
        and type(x) is Tensor
        and forward_ad._current_level < 0  # noqa: SLF001
        and library() is not None
    )


def differentiable(*grads: Tensor) -> bool:
    """Whether a backward pass must itself be differentiable, or is followed: then the plain definition is.

    Gradients for several cotangents at once come as tensors of their own kind (``is_grads_batched``).
    """
    several = any(torch._C._functorch.is_legacy_batchedtensor(grad) for grad in grads)  # noqa: SLF001
    return several or torch.is_grad_enabled() or watched()


@functools.cache
def library() -> ctypes.CDLL | None:
    """The kernels, built if need be; None when switched off or when they cannot be built."""
    if os.environ.get("CBNORM_NATIVE", "1") == "0":
        return None
    compiler = (
        shlex.split(os.environ.get("CXX", ""))
        or [found for name in ("g++", "clang++") if (found := shutil.which(name))][:1]
    )
    if not compiler:
        return None
    try:
        return ctypes.CDLL(str(_built(compiler)))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:  # RuntimeError: nobody's home
        log.info("normalization kernels could not be built, plain tensor code is used instead: %s", error)
        return None


def in_use() -> bool:
    """Whether this process has loaded the kernels; asking builds nothing."""
    return library.cache_info().currsize > 0 and library() is not None


def _built(compiler: list[str]) -> Path:
    folder = Path(__file__).with_name("kernels")
    sources = sorted(folder.glob("*.cpp"))
    # -march=native: a library built for another processor must not be picked up from a shared home.
    code = b"".join(path.read_bytes() for path in (folder / "common.hpp", *sources))
    identity = (code, shlex.join(compiler).encode(), " ".join(FLAGS).encode(), _processor().encode())
    digest = hashlib.sha256(b"\0".join(identity)).hexdigest()[:16]
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cbnorm"
    cache = Path(os.environ.get("CBNORM_CACHE_DIR") or user) / "kernels"
    target = cache / f"norms-{digest}.so"
    if not target.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            built = Path(scratch) / target.name
            command = [*compiler, *FLAGS, *map(str, sources), "-o", str(built)]
            subprocess.run(command, check=True, capture_output=True, timeout=BUILD_SECONDS)
            built.replace(target)  # atomic: processes that start together do not see half a library
    return target


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "".join(sorted({line for line in lines if line.startswith(("model name", "flags"))}))


def call(name: str, *arguments: Tensor | float | None) -> int:
    """Call a kernel; tensors become addresses, None a null pointer, and the number of threads comes last.

    Returns what the kernel returns; most return nothing and the number has no meaning.
    """
    loaded = library()
    if loaded is None:
        raise RuntimeError("the kernels are not available; ask wanted() first")
    return int(getattr(loaded, name)(*map(_c_value, arguments), ctypes.c_int(torch.get_num_threads())))


def _c_value(value: Tensor | float | None) -> object:
    if isinstance(value, Tensor):
        return ctypes.c_void_p(value.data_ptr())
    if value is None:
        return ctypes.c_void_p(None)
    return ctypes.c_float(value) if isinstance(value, float) else ctypes.c_int64(value)


def layout(x: Tensor) -> tuple[Tensor, bool]:
    """``x`` (N, C, L) in one of the two orders in memory that kernels know; True when channels are last."""
    if x.transpose(1, 2).is_contiguous():
        return x, True
    return x.contiguous(), False


def matching(x: Tensor, *, last: bool) -> Tensor:
    """``x`` (N, C, L) in float32 in the given order in memory."""
    x = x.to(torch.float32)
    return x.transpose(1, 2).contiguous().transpose(1, 2) if last else x.contiguous()
