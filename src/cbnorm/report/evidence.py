"""What lies beside the records: epochs and predictions of runs, read once, from one store or several."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cbnorm.errors import CbnormError
from cbnorm.report.endpoints import Record
from cbnorm.report.pool import Records
from cbnorm.runs.files import read_arrays
from cbnorm.runs.store import Store

#: Where `cbnorm look` leaves what it saw, a file per run; figures and verdicts look for it there.
LOOKS = Path("results/figures/looks")
#: How channels are distributed after a layer, by what claims call it: the array of a look.
SHAPES = {"normal_distance": "distance", "skewness": "skewness"}
#: A network that was looked at is right or wrong where its record is for this share of images at least, for
#: rounding changes few answers; the same run trained again by other kernels agrees on fewer.
_SAME = 0.95


class Evidence:
    """Records and what lies beside them.

    Args:
        stores: Where runs live. The same run may lie in several; then its numbers must agree.
        looks: Folder of what was seen in trained networks, a file per run.
    """

    def __init__(self, stores: Sequence[Store], looks: Path = LOOKS) -> None:
        self.stores = list(stores)
        self.looks = looks
        found: list[Record] = []
        self.damaged: dict[str, str] = {}
        for store in self.stores:
            records, damaged = store.survey()
            found += records
            self.damaged |= damaged
        self.records = Records(found)
        self.history = lru_cache(maxsize=None)(self._history)
        self.shape = lru_cache(maxsize=None)(self._shape)

    @classmethod
    def of(cls, text: str | None, looks: Path = LOOKS) -> "Evidence":
        """What lies in the stores named by ``store=FOLDER,FOLDER``; in ``runs``, if there is one, by default.

        Raises:
            CbnormError: One that is named doesn't exist.
        """
        stores = [Store(name) for name in ("runs" if text is None else text).split(",")]
        for store in stores:
            if text is not None and not store.root.is_dir():
                raise CbnormError(f"there is no store {store.root}: name folders with store=FOLDER,FOLDER")
        return cls(stores, looks)

    def folder(self, run: str) -> Path | None:
        """Where a run's files lie; None if nowhere."""
        folders = (store.folder(run) for store in self.stores)
        return next((folder for folder in folders if (folder / "record.json").is_file()), None)

    def _history(self, run: str) -> tuple[dict[str, Any], ...]:
        """The epochs of a run; none if they were lost or damaged."""
        # Another store may hold the beginning of the same run.
        for store in sorted(self.stores, key=lambda store: not _ended(store, run)):
            try:
                rows = store.history(run)
            except CbnormError:
                continue
            if rows:
                return tuple(rows)
        return ()

    def _shape(self, run: str, measure: str) -> float | None:
        """The median over channels of a measure of :data:`SHAPES`, without its sign; None without a look.

        A channel that is constant has no skewness and is left out. Nor is there a measure of a run that was
        trained again before it was looked at.
        """
        look = read_arrays(self.looks / f"{run}.npz", SHAPES[measure], "predicted", "labels")
        if look is None or self.trained_again(run, look):
            return None
        return float(np.nanmedian(np.abs(look[SHAPES[measure]])))

    def trained_again(self, run: str, look: Mapping[str, np.ndarray]) -> bool:
        """Whether the network that was looked at gives other answers than lie beside the record."""
        moments = self.records.by_id.get(run, {}).get("metrics", {}).get("moments")
        known = self.correct(run, moments[-1]["epoch"], "best") if moments else None
        if known is None:
            return False
        right = look["predicted"][-1] == look["labels"]
        return bool(np.mean(right == known[: len(right)]) < _SAME)

    def correct(self, run: str, epoch: int, reading: str, condition: str = "") -> np.ndarray | None:
        """Which test images a run got right at an epoch, one flag per image; None if that wasn't kept."""
        lead = f"{condition}." if condition else ""
        record = self.records.by_id.get(run, {})
        if record.get("status") == "diverged" and record["metrics"]["moments"]:
            epoch = min(epoch, record["metrics"]["moments"][-1]["epoch"])
        paths = (store.folder(run) / "predictions.npz" for store in self.stores)
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            return None
        name = f"{lead}{reading}_epoch{epoch}"
        for labels in dict.fromkeys([f"{lead}labels", "labels"]):
            if found := read_arrays(path, name, labels):
                return np.asarray(found[name] == found[labels], dtype=bool)
        return None


def _ended(store: Store, run: str) -> bool:
    """Whether a run ended there with numbers."""
    try:
        return store.status(run) in {"done", "diverged"}
    except CbnormError:
        return False
