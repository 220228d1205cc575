"""Where images are kept: in memory while they fit, in a file that is mapped into it when they don't."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from cbnorm.errors import CbnormError
from cbnorm.machine import memory

#: The share of a machine's memory, and of what is free on a GPU, up to which a split is held as a whole.
SHARE = 0.25


def fits(size: int, device: torch.device | str = "cpu") -> bool:
    """Whether so many bytes may be held at once.

    Args:
        size: In bytes.
        device: Where; a GPU's free memory counts, else all that this process may use.

    >>> fits(1_000), fits(10**18)
    (True, False)
    """
    if torch.device(device).type == "cuda":
        return size <= SHARE * torch.cuda.mem_get_info(device)[0]
    return size <= SHARE * memory()


def gathered(pieces: Iterable[torch.Tensor], shape: tuple[int, ...], folder: Path) -> torch.Tensor:
    """Put pieces of a set of images together, in memory if that fits.

    Args:
        pieces: uint8 (n, C, H, W), one after the other.
        shape: (N, C, H, W) of the whole.
        folder: Where a file for it may lie. It has no name and is gone with the process.

    Returns:
        uint8 (N, C, H, W).

    Raises:
        CbnormError: The file can't be written.
    """
    size = int(np.prod(shape))
    if fits(size):
        whole = torch.empty(shape, dtype=torch.uint8)
        start = 0
        for piece in pieces:
            whole[start : start + len(piece)] = piece
            start += len(piece)
        return whole
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            # Written, not mapped: a full disk is an error then, and not a killed process.
            for piece in pieces:
                file.write(piece.numpy().tobytes())
            file.flush()
            # Copy-on-write: torch wants arrays that could be written.
            return torch.from_numpy(np.memmap(file, np.uint8, mode="c", shape=shape))
    except OSError as error:
        raise CbnormError(
            f"{size / 1e9:.1f} GB of images don't fit into memory, and {folder} can't hold them ({error}): "
            "free some space or set CBNORM_DATA_DIR"
        ) from error
