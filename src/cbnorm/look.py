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
from cbnorm.report.evidence import LOOKS, Evidence
from cbnorm.runs import weights
from cbnorm.runs.files import write_bytes
from cbnorm.runs.plan import find_experiment, parse_seeds
from cbnorm.runs.records import Record


def look_command(words: Sequence[str]) -> int:
    """Carry out ``cbnorm look WORDS``: the seeds, or the first one, of the paper's rows that keep weights."""
    allowed = ["store", "out", "images", "rows", "seeds", "dataset", "protocol", "budget"]
    plain, own = split(words, "look", allowed)
    if len(plain) != 1:
        raise CbnormError("which table? write cbnorm look table5")
    images = own.pop("images", "2000")
    if not images.isdecimal() or int(images) < 20:
        raise CbnormError(f"images={images} must be a whole number from 20 up")
    experiment, out = find_experiment(plain[0]), Path(own.pop("out", LOOKS))
    evidence = Evidence.of(own.pop("store", "runs"))
    seeds = parse_seeds(own.pop("seeds")) if "seeds" in own else []
    labels = own.pop("rows").split(",") if "rows" in own else ["all"]
    found = collect(experiment, evidence.records, filters=own, labels=labels)
    seen = 0
    for block in found.blocks:
        for label, config, record, folder in _runs(block, evidence, seeds):
            path = out / f"{record['id']}.npz"
            if path.is_file():
                print(f"{label}, {block.title}, seed {config.seed}: looked at already, {path}")
            else:
                print(f"{label}, {block.title}, seed {config.seed}: looking ...", flush=True)
                write_bytes(path, _look(config, record, folder, int(images)))
            seen += 1
    print(f"{seen} networks in {out}" if seen else f"no run of {experiment} keeps weights of its network")
    return 0


def _runs(
    block: Block, evidence: Evidence, seeds: Sequence[int]
) -> Iterator[tuple[str, RunConfig, Record, Path]]:
    """The runs of these seeds that have weights, with their configs, of every row that figures show.

    Without seeds it is the first run of every row.
    """
    shown = (row for row in block.rows if not row.control and row.config.task.name == "classification")
    for row in shown:
        for seed, run in zip(row.main[-1].seeds, row.main[-1].runs, strict=True):
            folder = evidence.folder(run)
            if folder and (folder / weights.NAME).is_file() and (not seeds or seed in seeds):
                config = row.config.model_copy(update={"seed": seed})
                yield row.label, config, evidence.records.by_id[run], folder
                if not seeds:
                    break


def _look(config: RunConfig, record: Record, folder: Path, images: int) -> bytes:
    # Later, because a refusal should not wait for torch.
    from cbnorm.runs.build import load_data
    from cbnorm.runs.looks import look

    arrays: dict[str, Any] = look(config, record, folder, load_data(config), images)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
