"""The folder where runs live: one sub-folder per run, named by its id.

Layout 1::

    runs/layout.json          {"layout": 1}
    runs/<id>/run.json        the config and identity, written when the run starts
    runs/<id>/history.jsonl   a line per finished epoch
    runs/<id>/record.json     once, at a terminal status: done, failed or diverged
    runs/<id>/claim.json      while a process works on it
    runs/<id>/checkpoint.pt   while it isn't finished
    runs/<id>/*.npz, *.csv    small named artifacts
"""

import gc
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cbnorm.errors import CbnormError
from cbnorm.runs.files import cannot_read, cannot_write, read_json, read_json_if_there, read_lines, write_json
from cbnorm.runs.records import Record, problem

LAYOUT = 1
#: The newest checkpoint, and the one before it.
CHECKPOINTS = ("checkpoint.pt", "checkpoint.previous.pt")
_NUMBER = int | float | None


@contextmanager
def _without_collector() -> Iterator[None]:
    """Keep Python from walking through all that was read each time a few more objects are made."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Store:
    """A folder of runs. Reading never changes it; nothing is created before the first write.

    Args:
        root: The folder.

    Raises:
        CbnormError: If the folder was written by a later version, or is a file.
    """

    def __init__(self, root: str | Path) -> None:
        if not str(root).strip() or "\0" in str(root):
            raise CbnormError("store= names no folder: choose one with store=FOLDER")
        try:
            self.root = Path(root).expanduser()
            is_file = self.root.exists() and not self.root.is_dir()
            marked = (self.root / "layout.json").exists()
        except RuntimeError as error:
            raise CbnormError(f"store {root}: no such user; choose a folder with store=FOLDER") from error
        except OSError as error:
            raise cannot_read(Path(root), error) from error
        if is_file:
            raise CbnormError(f"store {self.root} is a file: choose a folder with store=FOLDER")
        if marked:
            marker = self.root / "layout.json"
            self._check_layout(read_json(marker).get("layout"), marker)
        self._known: dict[str, tuple[tuple[int, int, int], str]] = {}

    @staticmethod
    def _check_layout(layout: Any, path: Path) -> None:
        if not isinstance(layout, int) or layout < 1:
            raise CbnormError(f"{path} names no layout: is this a store of runs?")
        if layout > LAYOUT:
            raise CbnormError(f"{path} has layout {layout}, this cbnorm knows {LAYOUT}: update cbnorm")

    def folder(self, run: str) -> Path:
        """The folder of a run, which may not exist yet."""
        return self.root / run

    def open_run(self, run: str, content: dict[str, Any]) -> Path:
        """Make a run's folder and note what it is, unless that is there already."""
        if not (self.root / "layout.json").exists():
            write_json(self.root / "layout.json", {"layout": LAYOUT})
        path = self.folder(run) / "run.json"
        try:
            there = read_json_if_there(path)
        except CbnormError:
            there = None  # damaged: its content follows from the config
        if there is None:
            write_json(path, {"layout": LAYOUT, "id": run} | content)
        else:
            self._check_layout(there.get("layout", 1), path)
        return path.parent

    def status(self, run: str) -> str | None:
        """Terminal status of a run, or None when it has none yet.

        A record that was read once is not read again while the file stays as it is.

        Raises:
            CbnormError: If the record is damaged or comes from a later version.
        """
        path = self.folder(run) / "record.json"
        try:
            stat = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise cannot_read(path, error) from error
        signature = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if run not in self._known or self._known[run][0] != signature:
            record = self.record(run)
            if record is None:
                return None
            self._known[run] = (signature, record["status"])
        return self._known[run][1]

    def record(self, run: str) -> Record | None:
        """A run's record, or None before it ended.

        Raises:
            CbnormError: If the record is damaged or comes from a later version.
        """
        path = self.folder(run) / "record.json"
        content = read_json_if_there(path)
        if content is None:
            return None
        self._check_layout(content.get("layout"), path)
        if wrong := problem(content, run):
            raise CbnormError(f"{path} is damaged ({wrong}): move it away, then run again")
        return content

    def history(self, run: str) -> list[dict[str, Any]]:
        """The finished epochs of a run.

        Raises:
            CbnormError: They can't be read, or are none of a run's.
        """
        path = self.folder(run) / "history.jsonl"
        rows = read_lines(path)
        for number, row in enumerate(rows, 1):
            if not isinstance(row.get("epoch"), int) or not isinstance(row.get("val_accuracy"), _NUMBER):
                raise CbnormError(f"{path}, line {number} is no epoch of a run: move the file away")
        return rows

    def epochs(self, run: str) -> int:
        """How many epochs of a run are finished, as far as can be read."""
        try:
            return len(self.history(run))
        except CbnormError:  # what trains the run, or needs its epochs, tells of it
            return 0

    def description(self, run: str) -> dict[str, Any]:
        """What a run is, from its start on.

        Raises:
            CbnormError: If that is damaged or comes from a later version.
        """
        path = self.folder(run) / "run.json"
        content = read_json(path)
        self._check_layout(content.get("layout"), path)
        if wrong := problem(content | {"status": None}, run):
            raise CbnormError(f"{path} is damaged ({wrong}): the run's own command writes it again")
        return content

    def runs(self) -> list[str]:
        """Ids of all runs, started or ended, sorted."""
        return sorted(self._folders("run") | self._folders("record"))

    def _folders(self, name: str) -> set[str]:
        found = (path.parent.name for path in self.root.glob(f"*/{name}.json"))
        return {folder for folder in found if not folder.startswith(".")}

    def survey(self) -> tuple[list[Record], dict[str, str]]:
        """All records in the order of their ids, and by id what is wrong with those that can't be read."""
        found, damaged = [], {}
        with _without_collector():
            for run in sorted(self._folders("record")):
                try:
                    record = self.record(run)
                except CbnormError as error:
                    damaged[run] = str(error).replace(f"{self.root}/", "")
                    continue
                if record is not None:
                    found.append(record)
        return found, damaged

    def set_aside(self, run: str) -> None:
        """Make an ended run one that is still to be trained; its record is kept under another name."""
        record = self.record(run)
        if record is None:
            return
        path = self.folder(run) / "record.json"
        failed = record["status"] == "failed"
        aside, number = path.with_name("record.failed.json" if failed else "record.replaced.json"), 1
        # Nothing pushes out a result, not even a later one.
        while not failed and aside.exists():
            number += 1
            aside = path.with_name(f"record.replaced-{number}.json")
        try:
            path.replace(aside)
        except OSError as error:
            raise cannot_write(path, error) from error

    def discard(self, run: str) -> None:
        """Remove a run with all its files; only for who claimed it, or was told to.

        Raises:
            CbnormError: The store can't be written.
        """
        # Out of the store at once, so that nobody meets half a run; then out of the world.
        folder = self.folder(run)
        trash = folder.with_name(f".removed-{run}-{secrets.token_hex(4)}")
        try:
            folder.rename(trash)
            if trash.is_symlink():
                trash.unlink()
            else:
                shutil.rmtree(trash)
        except OSError as error:
            raise cannot_write(folder, error) from error

    def begun(self, run: str) -> bool:
        """Whether a run has left more than the note of what it is."""
        names = {path.name for path in self.folder(run).iterdir()}
        return bool(names - {"run.json", "claim.json", ".claim.lock"})

    def unfinished_business(self, run: str) -> bool:
        """Whether an ended run is to be cleaned: a process that was killed left its claim or a checkpoint."""
        return any((self.folder(run) / name).exists() for name in ("claim.json", *CHECKPOINTS))

    def clean(self, run: str) -> None:
        """Remove the checkpoints of an ended run, and what killed writers left; only for who claimed it."""
        folder = self.folder(run)
        for path in (*folder.glob("checkpoint*.pt"), *folder.glob(".*.part")):
            with suppress(OSError):
                path.unlink(missing_ok=True)
