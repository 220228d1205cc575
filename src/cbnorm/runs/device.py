"""The device that trains."""

import torch

from cbnorm.config.schema import RunConfig
from cbnorm.errors import CbnormError


def training_device(config: RunConfig) -> torch.device:
    """Where a run trains.

    Raises:
        CbnormError: A GPU is asked for that isn't there.
    """
    wanted = config.trainer.accelerator
    available = torch.cuda.is_available()
    if wanted == "gpu" and not available:
        raise CbnormError("trainer.accelerator=gpu, but torch finds no GPU: choose cpu or auto")
    if wanted == "cpu" or not available:
        return torch.device("cpu")
    if config.trainer.device >= torch.cuda.device_count():
        raise CbnormError(
            f"trainer.device={config.trainer.device}, but there are {torch.cuda.device_count()} GPUs"
        )
    return torch.device("cuda", config.trainer.device)


def exact_float32() -> None:
    """Let float32 be float32 on a GPU too: by default its convolutions round to ten bits (TF32)."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
