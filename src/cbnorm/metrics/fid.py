"""FID proper: torchmetrics' implementation on torch-fidelity's Inception network.

Both the network and its weights must be there: the package by ``pip install 'cbnorm[fid]'``, the weights by
``cbnorm data fetch inception`` or as a file in the data folder. Without either there is no FID, and nothing
else is ever called so.
"""

import importlib.util
from pathlib import Path

import cbnorm._torchvision  # noqa: F401  (before torchmetrics)

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from cbnorm.data import weights
from cbnorm.errors import CbnormError

FEATURES = 2048
_CHUNK = 100


def inception_weights() -> Path | None:
    """The verified weights of Inception where FID can be computed, else None; fetches nothing.

    Raises:
        CbnormError: The file is there, but is another one.
    """
    if importlib.util.find_spec("torch_fidelity") is None:
        return None
    return weights.present(weights.INCEPTION)


class Fid:
    """FID of samples against one set of real images, whose features are computed once.

    Images are enlarged to 299x299 as TensorFlow 1 did it, which is part of FID's definition.

    Args:
        real: uint8 (N, 3, H, W).
        network: The file of Inception's weights; a module that maps uint8 images to features stands in for
            Inception where the computation itself is tested.
        device: Where to compute.

    Raises:
        CbnormError: The file holds other weights.
    """

    def __init__(self, real: Tensor, network: Path | nn.Module, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        if isinstance(network, Path):
            # torch-fidelity unpickles without restrictions: only what passes with restrictions gets there.
            _refuse_code(network)
            self.metric = FrechetInceptionDistance(
                FEATURES,
                reset_real_features=False,
                feature_extractor_weights_path=str(network),
                antialias=False,
            )
        else:
            self.metric = FrechetInceptionDistance(network, reset_real_features=False)
        self.metric = self.metric.to(self.device)
        self._update(real, real=True)

    def __call__(self, samples: Tensor) -> float:
        """FID of samples, uint8 (M, 3, H, W), M from 2 up."""
        self._update(samples, real=False)
        found = float(self.metric.compute())
        self.metric.reset()
        return found

    def _update(self, images: Tensor, *, real: bool) -> None:
        with torch.no_grad():
            for part in images.split(_CHUNK):
                self.metric.update(part.to(self.device), real=real)


def _refuse_code(path: Path) -> None:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the archive's and the unpickler's errors have no common base
        raise CbnormError(f"{path} holds more than weights, or is damaged: delete it") from error
    if not isinstance(state, dict) or "Mixed_7c.branch_pool.conv.weight" not in state:
        raise CbnormError(f"{path} holds no weights of FID's Inception network: delete it")
