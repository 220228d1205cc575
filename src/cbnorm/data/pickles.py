"""The images and labels in the CIFAR authors' pickle files, without unpickling them.

Unpickling can run any code. These files are lists of numbers and one long string of pixels,
which can be read off the stream of opcodes; nothing in it is executed.
"""

import pickletools
from pathlib import Path
from typing import NamedTuple

from cbnorm.data.failure import SourceError


class Pickled(NamedTuple):
    """What such a file holds.

    Attributes:
        data: The pixels.
        numbers: The lists of labels asked for, by key.
    """

    data: bytes
    numbers: dict[str, list[int]]


def read_pickled(path: Path, *labels: str) -> Pickled:
    """Read the pixels and lists of labels.

    Args:
        path: A file written by Python 2, protocol 2 or lower.
        *labels: The keys of the lists: ``labels``, ``fine_labels`` or ``coarse_labels``.

    Raises:
        SourceError: There is no such file, or it is no pickle.
    """
    data, last_text = b"", ""
    numbers: dict[str, list[int]] = {key: [] for key in labels}
    try:
        with path.open("rb") as file:
            for opcode, value, _ in pickletools.genops(file):
                if isinstance(value, str) and "STRING" in opcode.name:
                    last_text = value
                    data = max(data, value.encode("latin-1"), key=len)
                elif isinstance(value, int) and opcode.name == "BININT1" and last_text in numbers:
                    numbers[last_text].append(value)
    except (OSError, ValueError) as error:
        raise SourceError(f"{path.name} can't be read ({error})") from error
    return Pickled(data, numbers)
