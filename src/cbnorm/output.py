"""What a command prints, and that nobody has to read it: work goes on when a reader has gone."""

import io
import os
import sys
from typing import Any, cast

from cbnorm.errors import CbnormError


class _Lasting(io.FileIO):
    """An open descriptor of this process to which writing goes nowhere once its reader has gone.

    Args:
        descriptor: Its number.
        only_readers: Whether other errors, such as those of a full disk, are raised.
    """

    def __init__(self, descriptor: int, *, only_readers: bool) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._only_readers = only_readers

    def write(self, data: Any) -> int:
        """Write bytes; the number written."""
        try:
            return super().write(data)
        except OSError as error:
            # Told once, if at all: Python writes what is left again as it ends.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            if self._only_readers and not isinstance(error, BrokenPipeError):
                raise CbnormError(f"the output can't be written: {error.strerror}") from error
            return len(memoryview(data).cast("B"))


def make_lasting() -> None:
    """Let this process print whatever happens to the other end.

    A pipe whose reader has gone, such as that of ``head``, is written to no more, and the work and its exit
    status stay what they were. Progress on stderr never ends work, whatever is wrong with it. Names of files
    that are no text, and signs that a terminal lacks, are printed as escapes.
    """
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper):
            continue
        if stream is not getattr(sys, f"__{name}__"):  # somebody else's, such as a test's
            stream.reconfigure(errors="backslashreplace")
            continue
        stream.flush()
        file = io.BufferedWriter(_Lasting(descriptor, only_readers=descriptor == 1))
        lasting = io.TextIOWrapper(
            cast("Any", file),
            encoding=stream.encoding,
            errors="backslashreplace",
            line_buffering=stream.line_buffering or stream.write_through,
        )
        setattr(sys, name, lasting)
