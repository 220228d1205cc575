"""`cbnorm look`: at what finished networks see, for figures that need no network then."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cbnorm.config.overrides import parse
from cbnorm.config.schema import RunConfig
from cbnorm.errors import CbnormError
from cbnorm.report.blocks import Block, TableRow
from cbnorm.report.collect import collect
from cbnorm.report.evidence import LOOKS, Evidence
from cbnorm.runs import weights
from cbnorm.runs.files import read_arrays, write_bytes
from cbnorm.runs.plan import choose_rows, find_experiment, parse_seeds
from cbnorm.runs.records import Record
from cbnorm.words import path_of, split


def look_command(words: Sequence[str]) -> int:
    """Carry out ``cbnorm look WORDS``: the seeds, or the first one, of the paper's rows that keep weights."""
    allowed = ["store", "out", "images", "rows", "seeds", "dataset", "protocol", "budget"]
    plain, own = split(words, "look", allowed)
    if len(plain) != 1:
        raise CbnormError("which table? write cbnorm look table5")
    images = own.pop("images", "2000")
    if not images.isdecimal() or int(images) < 20:
        raise CbnormError(f"images={images} must be a whole number from 20 up")
    experiment, out = find_experiment(plain[0]), path_of(own, "out", LOOKS)
    own_seeds = own.pop("seeds", "")
    seeds = parse_seeds(own_seeds) if own_seeds else []
    labels = own.pop("rows").split(",") if "rows" in own else []
    choose_rows(experiment, labels)  # what collects them takes a row that isn't there for one without runs
    evidence = Evidence.of(own.pop("store", "runs"))
    parse([f"{key}={value}" for key, value in own.items()])
    found = collect(experiment, evidence.records, filters=own, labels=labels or ["all"])
    seen, without, problems = 0, 0, []
    for block in found.blocks:
        for row in _shown(block, named=bool(labels)):
            runs = _runs(row, seeds)
            kept = [seed for seed, run in runs.items() if _kept(evidence, run)]
            without += len(runs) - len(kept)
            for seed in kept if seeds else kept[:1]:
                place = f"{row.label}, {block.title}, seed {seed}"
                config = row.config.model_copy(update={"seed": seed})
                try:
                    _look_once(place, out, config, runs[seed], evidence, int(images))
                    seen += 1
                except CbnormError as error:  # of one network; the others can still be looked at
                    problems.append(f"{place}: {error}")
    if problems:
        raise CbnormError("; ".join(problems) + (f" ({seen} others are in {out})" if seen else ""))
    if not seen:
        without_seeds = f" (seeds={own_seeds} leaves others out)" if seeds else ""
        print(f"no run of {experiment} keeps weights of its network{without_seeds}")
        return 0
    print(f"{seen} networks in {out}")
    if without:
        print(f"runs without weights, left out: {without} (reproduce with again=true trains them anew)")
    return 0


def _shown(block: Block, *, named: bool) -> list[TableRow]:
    """The rows that figures show; controls too when rows are named."""
    rows = [row for row in block.rows if row.config.task.name == "classification"]
    return rows if named else [row for row in rows if not row.control]


def _runs(row: TableRow, seeds: Sequence[int]) -> dict[int, str]:
    """The runs of these seeds, or of all."""
    found = dict(zip(row.main[-1].seeds, row.main[-1].runs, strict=True))
    return {seed: run for seed, run in found.items() if not seeds or seed in seeds}


def _kept(evidence: Evidence, run: str) -> Path | None:
    """The folder of a run that keeps weights."""
    folder = evidence.folder(run)
    return folder if folder and (folder / weights.NAME).is_file() else None


def _look_once(place: str, out: Path, config: RunConfig, run: str, evidence: Evidence, images: int) -> None:
    """Look at a run, unless so many images were looked at through the network that its record tells of."""
    path, record, folder = out / f"{run}.npz", evidence.records.by_id[run], _kept(evidence, run)
    there = read_arrays(path, "predicted", "labels")
    wanted = min(images, record["data"]["images"].get("test", images))
    if there is not None and len(there["labels"]) == wanted and not evidence.trained_again(run, there):
        print(f"{place}: looked at already, {path}")
    elif folder is not None:
        print(f"{place}: looking ...", flush=True)
        write_bytes(path, _look(config, record, folder, images))


def _look(config: RunConfig, record: Record, folder: Path, images: int) -> bytes:
    # Later, because a refusal should not wait for torch.
    from cbnorm.runs.build import load_data
    from cbnorm.runs.looks import look

    arrays: dict[str, Any] = look(config, record, folder, load_data(config), images)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
