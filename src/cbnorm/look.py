"""`cbnorm look`: at what finished networks see, for figures that need no network then."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cbnorm.config.schema import RunConfig
from cbnorm.errors import CbnormError
from cbnorm.report.blocks import Block
from cbnorm.report.collect import collect
from cbnorm.report.commands import split
from cbnorm.report.evidence import Evidence
from cbnorm.report.figures.material import LOOKS
from cbnorm.runs import weights
from cbnorm.runs.files import write_bytes
from cbnorm.runs.plan import find_experiment
from cbnorm.runs.records import Record


def look_command(words: Sequence[str]) -> int:
    """Carry out ``cbnorm look WORDS``: the first seed of the paper's rows that keep weights."""
    plain, own = split(words, "look", ["store", "out", "images", "dataset", "protocol", "budget"])
    if len(plain) != 1:
        raise CbnormError("which table? write cbnorm look table5")
    images = own.pop("images", "2000")
    if not images.isdecimal() or int(images) < 20:
        raise CbnormError(f"images={images} must be a whole number from 20 up")
    experiment, out = find_experiment(plain[0]), Path(own.pop("out", LOOKS))
    evidence = Evidence.of(own.pop("store", "runs"))
    found = collect(experiment, evidence.records, filters=own)
    seen = 0
    for block in found.blocks:
        for label, config, record, folder in _runs(block, evidence):
            path = out / f"{record['id']}.npz"
            if path.is_file():
                print(f"{label}, {block.title}: looked at already, {path}")
            else:
                print(f"{label}, {block.title}: looking ...", flush=True)
                write_bytes(path, _look(config, record, folder, int(images)))
            seen += 1
    print(f"{seen} networks in {out}" if seen else f"no run of {experiment} keeps weights of its network")
    return 0


def _runs(block: Block, evidence: Evidence) -> Iterator[tuple[str, RunConfig, Record, Path]]:
    """The first run that has weights, with its config, of every row that figures show."""
    records = {record["id"]: record for record in evidence.records.all}
    for row in (row for row in block.rows if not row.control):
        for seed, run in zip(row.main[-1].seeds, row.main[-1].runs, strict=True):
            folder = evidence.folder(run)
            if row.config.task.name == "classification" and folder and (folder / weights.NAME).is_file():
                yield row.label, row.config.model_copy(update={"seed": seed}), records[run], folder
                break


def _look(config: RunConfig, record: Record, folder: Path, images: int) -> bytes:
    # Later, because a refusal should not wait for torch.
    from cbnorm.runs.build import load_data
    from cbnorm.runs.looks import look

    arrays: dict[str, Any] = look(config, record, folder, load_data(config), images)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
