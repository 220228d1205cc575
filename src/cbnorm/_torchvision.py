"""Make ``import torchvision`` work beside a CPU-only torch.

The registry's torchvision wheel holds operators compiled for CUDA. Beside a CPU-only torch
they cannot be loaded, and ``import torchvision`` then fails because it registers a fake
implementation for ``nms``, which nobody defined; torchmetrics and Lightning fail with it,
since they import torchvision when it is installed. Defining the two missing operators'
signatures is enough: nothing in cbnorm calls them. On CUDA builds this does nothing.

Every module of this package that imports lightning, torchmetrics or torchvision imports this
one first.
"""

import importlib.util
from pathlib import Path

import torch

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def _define_missing_operators() -> torch.library.Library | None:
    spec = importlib.util.find_spec("torchvision")
    if torch.version.cuda is not None or spec is None or spec.origin is None:
        return None
    for compiled in Path(spec.origin).parent.glob("_C*.so"):
        try:
            torch.ops.load_library(compiled)
        except OSError:
            continue
        return None
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        library.define(operator + _SIGNATURE)
    return library


# Kept alive: the definitions vanish with the object.
_library = _define_missing_operators()
