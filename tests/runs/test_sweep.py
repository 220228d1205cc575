"""Plans are carried out once, by however many processes."""

import csv
import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from cbnorm.cli import main
from cbnorm.config.compose import compose_run
from cbnorm.config.overrides import quoted
from cbnorm.errors import CbnormError
from cbnorm.runs import execute as execution
from cbnorm.runs.identity import run_id
from cbnorm.runs.limit import Limit
from cbnorm.runs.needed import group_classifier
from cbnorm.runs.plan import Planned, expand, parse_seeds, plan
from cbnorm.runs.store import Store
from cbnorm.runs.sweep import default_jobs, sweep
from cbnorm.runs.worker import work
from cbnorm.train import job, train

TINY = [
    "budget=smoke",
    "dataset.train_images=30",
    "dataset.val_images=20",
    "dataset.test_images=20",
    "trainer.batch_size=10",
    "trainer.precision=fp32",
]


def reproduce(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cbnorm", "reproduce", "table5", *TINY, *words],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_one_command_trains_the_rows_and_writes_the_table(tmp_path: Path) -> None:
    answer = reproduce(f"store={tmp_path}", "rows=BN-1,SCB-Norm-2", "jobs=2")
    assert answer.returncode == 0, answer.stderr
    with (tmp_path / "tables" / "table5.csv").open() as file:
        lines = {line["model"]: line for line in csv.DictReader(file)}
    assert len(lines) == 10
    assert lines["BN-1"]["100 %"] != "" == lines["BN-2"]["100 %"]
    assert lines["BN-1"]["budget"].startswith("smoke, customised: dataset.train_images=30")
    assert {r["status"] for r in Store(tmp_path).survey()[0]} == {"done"}
    written = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/record.json")}
    assert len(written) == 2
    # More seeds train only what is missing.
    answer = reproduce(f"store={tmp_path}", "rows=BN-1,SCB-Norm-2", "seeds=0,1")
    assert answer.returncode == 0, answer.stderr
    after = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/record.json")}
    assert len(after) == 4
    assert written.items() <= after.items()


def test_concurrent_sweeps_share_the_work(tmp_path: Path) -> None:
    words = [f"store={tmp_path}", "rows=BN-1,BN-2", "seeds=0,1", "jobs=1"]
    command = [sys.executable, "-m", "cbnorm", "reproduce", "table5", *TINY, *words]
    sweeps = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    answers = [sweep.communicate(timeout=280) for sweep in sweeps]
    assert [sweep.returncode for sweep in sweeps] == [0, 0], answers
    assert len(Store(tmp_path).survey()[0]) == 4
    # Done once each: a second training would have moved the first record aside.
    assert not list(tmp_path.glob("*/record.replaced.json"))
    assert all(len(Store(tmp_path).history(run)) == 4 for run in Store(tmp_path).runs())
    assert not list(tmp_path.glob("*/claim.json"))


def test_plans_are_seed_major() -> None:
    planned = plan("table5", seeds=[0, 1], labels=["BN-1", "UCB-Norm-2"])
    assert [(p.row, p.config.seed) for p in planned] == [
        ("BN-1", 0),
        ("UCB-Norm-2", 0),
        ("BN-1", 1),
        ("UCB-Norm-2", 1),
    ]


def test_as_many_jobs_as_cores_and_runs_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    planned = plan("table5", ["trainer.accelerator=cpu"])
    monkeypatch.setattr("cbnorm.runs.sweep.cores", lambda: 4)
    assert default_jobs(planned) == 4
    assert default_jobs(planned[:3]) == 3
    assert default_jobs(plan("table5", ["trainer.accelerator=cpu", "trainer.threads=3"])) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    {
        ("optimizer.lr=0.1",): "'optimizer.lr' distinguishes the rows of table5",
        ("norm=bn",): "'norm' distinguishes the rows of table5",
        ("trainer.max_epochs=4,8",): "is a sweep",
    }.items(),
)
def test_overrides_of_what_the_rows_are_made_of_are_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(CbnormError, match=message):
        plan("table5", words)


def test_misspelt_rows_seeds_and_tables_are_refused() -> None:
    with pytest.raises(CbnormError, match="did you mean 'BN-1'"):
        plan("table5", labels=["BN1"])
    with pytest.raises(CbnormError, match="did you mean 'table5'"):
        plan("tabel5")
    for text in ("a", "1..", "", "4..0", "-1"):
        with pytest.raises(CbnormError, match="seeds="):
            parse_seeds(text)


def test_sweeps_expand_as_hydra_does() -> None:
    assert len(expand(["norm=bn,mn", "optimizer.lr=0.1,0.2,0.3"])) == 6
    assert expand(["norm=bn"], {"norm": "mn,ucb", "seed": "1,2"}) == [
        ["seed=1", "norm=bn"],
        ["seed=2", "norm=bn"],
    ]


def test_train_sweeps_through_hydra(tmp_path: Path) -> None:
    words = ["train", "-m", *TINY, "trainer.max_epochs=4", "norm=bn,ucb", f"store={tmp_path}"]
    answer = subprocess.run(
        [sys.executable, "-m", "cbnorm", *words],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        cwd=tmp_path,
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.count("  done  ") == 2
    assert {json.loads(p.read_text())["config"]["norm"]["name"] for p in tmp_path.glob("*/record.json")} == {
        "bn",
        "ucb",
    }
    others = {path.name for path in tmp_path.iterdir() if not (path / "record.json").exists()}
    assert others == {".hydra", "layout.json"}


@pytest.mark.parametrize("limited", [True, False])
def test_a_worker_that_ends_before_it_can_answer_is_one_that_stopped_only_at_a_limit(
    limited: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def deaf(*_: object) -> Any:
        # Nothing handles its signals, as in a worker that is still importing or already leaving.
        command = "import os, signal, time; time.sleep({}); os.kill(os.getpid(), signal.SIGUSR1)"
        code = command.format(60 if limited else 0)
        process = multiprocessing.get_context("spawn").Process(target=exec, args=(code,))
        process.start()
        return process

    monkeypatch.setattr("cbnorm.runs.sweep._start", deaf)
    planned = plan("table5", ["budget=smoke"], labels=["BN-1"])
    now = time.monotonic()
    limit = Limit(now + 2.0, now + 60.0, {planned[0].id: 0.0}) if limited else None
    if limited:
        assert sweep(planned, Store(tmp_path), jobs=1, limit=limit)
        assert time.monotonic() < now + 30
    else:
        with pytest.raises(CbnormError, match="a worker stopped"):
            sweep(planned, Store(tmp_path), jobs=1)


def test_globs_are_the_names_that_they_fit_and_intervals_are_refused() -> None:
    assert expand(["norm=glob(*n,exclude=g*)"]) == [
        [f"norm={name}"] for name in ("bn", "cluster_bn", "conditional_bn", "in", "ln", "mn", "uan")
    ]
    with pytest.raises(CbnormError, match=r"'seed=glob\(\*\)' fits no name: write values"):
        expand(["seed=glob(*)"])
    with pytest.raises(CbnormError, match=r"names no values: write them with commas, as in optimizer.lr=A,B"):
        expand(["optimizer.lr=interval(0,1)"])


def test_the_smaller_seed_comes_first_in_every_part() -> None:
    with pytest.raises(CbnormError, match=r"^seeds=7,4\.\.0: write the smaller seed first, as in 0\.\.4$"):
        parse_seeds("7,4..0")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--config-dir", "/tmp"], "--config-dir is not for cbnorm train"),
        (["--config-name=x"], "--config-name is not for cbnorm train"),
        (["--package", "x"], "--package is not for cbnorm train"),
        (["--resolve"], "--resolve goes with --cfg: write cbnorm train --cfg job --resolve"),
        (["-m", "norm=glob(zz*)"], "fits no name"),
    ],
)
def test_what_hydra_would_answer_by_an_error_of_its_own_is_one_line(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", f"store={tmp_path / 'runs'}", *words]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_sweep_into_what_is_no_folder_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert main(["train", "-m", *TINY, "seed=0,1", f"store={file}"]) == 2
    told = capsys.readouterr().err
    assert str(file) in told
    assert "unexpected" not in told


def test_a_store_may_be_called_anything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("lr=1", "it's (mine)", "~", "a\\b(c", "a\\'b(", "a(\\"):
        assert main(["train", "--cfg", "job", f"store={tmp_path}/{name}"]) == 0
        assert yaml.safe_load(capsys.readouterr().out)["store"] == f"{tmp_path}/{name}"


def test_one_s_own_folder_is_one_s_own_and_two_stores_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert quoted(["store=~/runs", "store=~/a,~/b"]) == [f"store={tmp_path}/runs", "store=~/a,~/b"]
    assert main(["train", "-m", "store=~/a,~/b", *TINY]) == 2
    assert "cannot read 'store=~/a,~/b'" in capsys.readouterr().err


def test_only_what_hydra_cannot_write_in_the_store_is_told_as_such(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fails(*_: object, **__: object) -> Any:
        def work() -> None:
            raise FileNotFoundError(2, "No such file or directory", str(tmp_path / place))

        return lambda _job: work

    monkeypatch.setattr("hydra.main", fails)
    place = "runs/.hydra"
    with pytest.raises(CbnormError, match="cannot write"):
        train([*TINY, f"store={tmp_path / 'runs'}"])
    place = "elsewhere"
    with pytest.raises(FileNotFoundError):
        train([*TINY, f"store={tmp_path / 'runs'}"])


def test_what_a_sweeper_that_searches_is_told_is_of_validation_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = compose_run([*TINY, f"store={tmp_path}", "trainer.max_epochs=4"])
    moments = [{"val_accuracy": 61.0, "best": {"accuracy": 99.0}, "last": {"accuracy": 99.0}}]
    record = {"id": "a", "status": "done", "metrics": {"moments": moments}}
    monkeypatch.setattr("cbnorm.train.check", lambda _: run)
    monkeypatch.setattr("cbnorm.train._execute", lambda _: record)
    monkeypatch.setattr("cbnorm.train.HydraConfig.get", lambda: OmegaConf.create({"overrides": {"task": []}}))
    assert job(OmegaConf.create({})) == 61.0


def test_a_table_of_rows_with_an_override_that_distinguishes_others(tmp_path: Path) -> None:
    words = [*TINY, "rows=BN-1", "norm.affine=true", f"store={tmp_path}"]
    assert main(["reproduce", "table5", *words, "jobs=1"]) == 0
    with pytest.raises(CbnormError, match=r"'norm\.affine' distinguishes"):
        plan("table5", ["norm.affine=false"], labels=["all"])
    words = [*TINY, "rows=BN-1", "norm.affine=false", f"store={tmp_path}"]
    assert main(["reproduce", "table5", *words, "jobs=1"]) == 0


def test_a_classifier_that_diverged_ends_no_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path)
    grouped = ["partition=superclass", "task.group=superclass", "task.readings=[predicted]"]
    words = [*TINY, "dataset=digits", f"store={tmp_path}", "trainer.max_epochs=4"]
    asked, other = compose_run([*words, "norm=scb", *grouped]), compose_run([*words, "norm=bn"])
    needed = group_classifier(asked)
    diverged = {"id": run_id(needed), "status": "diverged", "metrics": {"moments": []}}
    own = execution.execute
    monkeypatch.setattr(
        execution, "execute", lambda c, s, **k: diverged if run_id(c) == run_id(needed) else own(c, s, **k)
    )
    planned = [Planned("grouped", asked, run_id(asked)), Planned("plain", other, run_id(other))]
    with pytest.raises(SystemExit, match="1"):
        work(planned, store, os.getppid())
    told = capsys.readouterr().err
    assert "its classifier of superclass, diverged before it was read once" in told
    assert (store.status(run_id(other)), store.status(run_id(asked))) == ("done", None)


def test_what_is_asked_of_ended_runs_too_late_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*TINY, "rows=BN-1", f"store={tmp_path}", "jobs=1"]
    assert main(["reproduce", "table5", *words]) == 0
    capsys.readouterr()
    assert main(["reproduce", "table5", *words, "trainer.keep=moments", "logger=wandb"]) == 0
    told = capsys.readouterr().err
    assert "1 run ended before without trainer.keep=moments (" in told
    assert "1 run ended before without logger=wandb (" in told
    assert main(["reproduce", "table5", *words]) == 0
    assert "ended before" not in capsys.readouterr().err
