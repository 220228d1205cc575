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

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cbnorm.errors import CbnormError
from cbnorm.runs.files import read_json, read_lines, write_json

LAYOUT = 1
TERMINAL = frozenset({"done", "failed", "diverged"})


class Store:
    """A folder of runs. Reading never changes it; nothing is created before the first write.

    Args:
        root: The folder.

    Raises:
        CbnormError: If the folder was written by a later version, or is a file.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser()
        if self.root.exists() and not self.root.is_dir():
            raise CbnormError(f"store {self.root} is a file: choose a folder with store=FOLDER")
        marker = self.root / "layout.json"
        if marker.exists():
            self._check_layout(read_json(marker).get("layout"), marker)

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
        folder = self.folder(run)
        if not (folder / "run.json").exists():
            write_json(folder / "run.json", {"layout": LAYOUT, "id": run} | content)
        return folder

    def status(self, run: str) -> str | None:
        """Terminal status of a run, or None when it has none yet."""
        record = self.record(run)
        return None if record is None else record["status"]

    def record(self, run: str) -> dict[str, Any] | None:
        """A run's record, or None before it ended.

        Raises:
            CbnormError: If the record is damaged or comes from a later version.
        """
        path = self.folder(run) / "record.json"
        if not path.exists():
            return None
        content = read_json(path)
        self._check_layout(content.get("layout"), path)
        if content.get("status") not in TERMINAL or "identity" not in content:
            raise CbnormError(
                f"{path} is damaged (no terminal status or identity): move it away, then run again"
            )
        return content

    def history(self, run: str) -> list[dict[str, Any]]:
        """The finished epochs of a run."""
        return read_lines(self.folder(run) / "history.jsonl")

    def runs(self) -> list[str]:
        """Ids of all runs, started or ended, sorted."""
        return sorted(
            {path.parent.name for name in ("run", "record") for path in self.root.glob(f"*/{name}.json")}
        )

    def records(self) -> Iterator[dict[str, Any]]:
        """All records, in the order of their ids."""
        for path in sorted(self.root.glob("*/record.json")):
            record = self.record(path.parent.name)
            if record is not None:
                yield record
