"""The weights that a finished run keeps, so that others can look at what its network sees."""

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cbnorm.errors import CbnormError
from cbnorm.runs.files import write_bytes

NAME = "weights.pt"
#: With ``trainer.keep=moments``, of the best epoch until a moment.
MOMENT = "weights-{percent}.pt"
#: Larger networks keep none: a store of a thousand runs should stay a matter of a few gigabytes.
LARGEST = 5 * 10**6
_VERSION = 1


def write(folder: Path, run: str, epoch: int, model: dict[str, Tensor], name: str = NAME) -> None:
    """Keep a network's state, unless it takes more than 5 MB.

    Args:
        folder: The run's folder.
        run: The run's id.
        epoch: The epoch at whose end these were the weights.
        model: State of the network.
        name: Of the file.
    """
    if sum(tensor.numel() * tensor.element_size() for tensor in model.values()) > LARGEST:
        return
    buffer = io.BytesIO()
    torch.save({"version": _VERSION, "run": run, "epoch": epoch, "model": model}, buffer)
    write_bytes(folder / name, buffer.getvalue())


def read(folder: Path, run: str, name: str = NAME) -> dict[str, Tensor]:
    """The network's state that a run kept: of the epoch with the best validation accuracy.

    Raises:
        CbnormError: It kept none, or the file can't be used.
    """
    path = folder / name
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if content["run"] != run or content["version"] != _VERSION:
            raise ValueError("it belongs to another run or version")  # noqa: TRY301  (told like damage)
        return dict(content["model"])
    except FileNotFoundError as error:
        raise CbnormError(
            f"run {run} kept no weights (it is older than that, or they take more than "
            f"{LARGEST // 10**6} MB): train it again with a cbnorm of today, or a smaller network"
        ) from error
    except Exception as error:  # the archive's and the unpickler's errors have no common base
        raise CbnormError(
            f"{path} can't be used, damaged or of another run: train run {run} again"
        ) from error
