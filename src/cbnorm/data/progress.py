"""What a fetch tells the person who waits for it: a bar on standard error."""

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


class Reporter:
    """Shows what goes on, as one line that changes."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=None)

    def begin(self, what: str, total: int | None = None) -> None:
        """Say what is being done now, and how many bytes that will take, if known."""
        self._bar.reset(self._task, description=what, total=total)

    def advance(self, done: int) -> None:
        """Say that so many bytes more are done."""
        self._bar.advance(self._task, done)

    def bytes(self, done: int, total: int) -> None:
        """Say how far a download is."""
        self._bar.update(self._task, completed=done, total=total)


@contextlib.contextmanager
def reporter(visible: bool) -> Iterator[Reporter]:
    """Show a progress bar, unless ``visible`` is false or nobody watches."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(
        *columns,
        TimeRemainingColumn(),
        console=console,
        disable=not (visible and console.is_terminal),
        transient=True,
    ) as bar:
        yield Reporter(bar)
