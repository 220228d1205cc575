"""Runs with a norm, a model, a data set and an experiment of another package, through the command line."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cbnorm.cli import main
from cbnorm.runs.store import Store

TINY = [
    "dataset=stripes",
    "model=small_cnn",
    "budget=full",
    "dataset.train_images=20",
    "dataset.val_images=20",
    "dataset.test_images=20",
    "trainer.batch_size=10",
    "trainer.precision=fp32",
    "trainer.max_epochs=1",
    "trainer.moments=[100]",
]


def test_a_table_is_reproduced_and_its_records_name_the_package(example_site: Path, tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "cbnorm", "reproduce", "rms_table", *TINY, f"store={tmp_path}", "jobs=1"],
        env={**os.environ, "PYTHONPATH": str(example_site)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    with (tmp_path / "tables" / "rms_table.csv").open() as file:
        lines = {line["model"]: line for line in csv.DictReader(file)}
    assert list(lines) == ["BN", "RMS", "RMS-0.1", "Shift"]
    assert all(line["100 %"] for line in lines.values())
    assert {line["data set"] for line in lines.values()} == {"Stripes (20 training images)"}
    records = {r["identity"]["config"]["norm"]["name"]: r for r in Store(tmp_path).survey()[0]}
    assert set(records) == {"bn", "cbnorm-example:rms", "cbnorm-example:cluster_shift"}
    assert all(record["versions"]["cbnorm-example"] == "1.0" for record in records.values())
    assert sum(records["cbnorm-example:cluster_shift"]["partition"]["sizes"]["train"]) == 20


@pytest.mark.usefixtures("example")
def test_a_sweep_through_hydra_trains_and_collects(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["norm=rms", "norm.options.eps=0.1,0.2", "experiment=rms_table", f"store={tmp_path}"]
    assert main(["train", "-m", *TINY, *words]) == 0
    found = [record["config"]["norm"]["options"] for record in Store(tmp_path).survey()[0]]
    assert sorted(options["eps"] for options in found) == [0.1, 0.2]
    assert main(["runs", "list", f"store={tmp_path}"]) == 0
    assert capsys.readouterr().out.count(" rms ") >= 2
    assert main(["collect", "rms_table", f"store={tmp_path}"]) == 0
    assert "customised" in capsys.readouterr().out
