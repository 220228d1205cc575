"""`cbnorm runs`: what is shown, removed and taken over."""

import functools
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cbnorm.cli import main
from cbnorm.config.compose import compose_run
from cbnorm.errors import CbnormError
from cbnorm.runs.campaign import survey
from cbnorm.runs.claim import claim
from cbnorm.runs.identity import identity, run_id
from cbnorm.runs.plan import Planned
from cbnorm.runs.speed import Speeds
from cbnorm.runs.store import Store

METRICS = {"accuracy": 80.0, "loss": 0.5, "f1": 79.0}


composed = functools.cache(lambda *words: compose_run(["budget=smoke", *words]))


def put(
    folder: Path, *words: str, seed: int = 0, status: str = "done", accuracy: float = 80.0, **more: Any
) -> str:
    """A run as it would lie in a store."""
    config = composed(*words).model_copy(update={"seed": seed})
    store, run = Store(folder), run_id(config)
    names = {"experiment": None, "protocol": config.protocol, "budget": config.budget}
    known = names | {"identity": identity(config), "config": config.model_dump(exclude={"store"})}
    store.open_run(run, known)
    (store.folder(run) / "history.jsonl").write_text('{"epoch": 1, "train_loss": 1.5}\n')
    if status:
        reading = METRICS | {"accuracy": accuracy}
        moments = [{"percent": 100, "epoch": 4, "best": reading, "last": reading}]
        outcome = (
            {"error": {"message": "it burst"}}
            if status == "failed"
            else {"metrics": {"moments": moments}, "data": {"name": "CIFAR-10", "images": {"train": 12}}}
        )
        record = {"layout": 1, "id": run, "status": status, "epochs": 4} | known | outcome | more
        (store.folder(run) / "record.json").write_text(json.dumps(record))
        (store.folder(run) / "predictions.npz").write_bytes(b"some bytes")
    return run


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    def run(*words: str, store: str = "runs") -> tuple[int, str, str]:
        status = main(["runs", *words, f"store={tmp_path / store}"])
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


def test_the_list_says_what_every_run_is_and_does(ask, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    expected = {
        put(runs, "norm=bn"): "done",
        put(runs, "norm=ucb", seed=3): "done",
        put(runs, "norm=mn", status="failed"): "failed",
        put(runs, "norm=bn", seed=1, status=""): "unfinished",
        put(runs, "norm=bn", seed=2, status=""): "running",
    }
    (running,) = (run for run, status in expected.items() if status == "running")
    with claim(runs / running):
        status, out, _ = ask("list")
    lines = out.splitlines()
    assert status == 0
    assert {line.split()[0]: line.split()[1] for line in lines[1:]} == expected
    assert max(map(len, lines)) <= 100
    (ucb,) = (line for line in lines if " ucb " in line)
    assert ucb.split()[3:] == ["0.001", "digits", "3", "smoke", "sound", "4/4", "80.00"]


def test_a_run_is_shown_by_the_beginning_of_its_id(ask, tmp_path: Path) -> None:
    run = put(tmp_path / "runs", "norm=ucb")
    status, out, _ = ask("show", run[:3])
    assert status == 0
    assert out.startswith(f"run {run}: done\n")
    assert "norm.components" in out
    assert "100 %" in out
    failed = put(tmp_path / "runs", "norm=bn", status="failed")
    assert "error: it burst" in ask("show", failed)[1]


def test_beginnings_that_fit_none_or_several_are_refused(ask, tmp_path: Path) -> None:
    runs = sorted(put(tmp_path / "runs", seed=seed) for seed in range(17))
    assert "begins with 'xyz'" in ask("show", "xyz")[2]
    # Of seventeen hexadecimal ids two begin alike.
    common = next(a[0] for a, b in itertools.pairwise(runs) if a[0] == b[0])
    status, _, err = ask("rm", common)
    assert status == 2
    assert "write more of the id" in err
    assert len(Store(tmp_path / "runs").runs()) == 17


def test_differences_are_of_config_and_metrics(ask, tmp_path: Path) -> None:
    a = put(tmp_path / "runs", "norm=bn")
    b = put(tmp_path / "runs", "norm=bn", "optimizer.lr=0.005", accuracy=90.0)
    out = ask("diff", a, b)[1]
    found = {
        line.split()[0]: line.split()[1:]
        for line in out.splitlines()
        if line.startswith("  c") or "%" in line
    }
    assert found.pop("config.optimizer.lr") == ["0.001", "0.005"]
    assert found == {"100": ["%", "last.accuracy", "80", "90"]}
    assert "config: the same" in ask("diff", a, a)[1]


def test_a_run_is_removed_unless_somebody_works_on_it(ask, tmp_path: Path) -> None:
    run, other = (put(tmp_path / "runs", seed=seed) for seed in (0, 1))
    with claim(tmp_path / "runs" / run):
        status, _, err = ask("rm", run)
        assert status == 2
        assert "is being trained" in err
        assert Store(tmp_path / "runs").status(run) == "done"
        assert ask("rm", run, "--force", "false")[0] == 2
        assert ask("rm", run, "force=True")[0] == 0
    assert Store(tmp_path / "runs").runs() == [other]
    with claim(tmp_path / "runs" / other):
        assert ask("rm", "--force", other)[0] == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["layout.json"]


def test_merging_copies_what_is_missing_and_keeps_what_is_here(ask, tmp_path: Path) -> None:
    here, there = tmp_path / "runs", tmp_path / "there"
    same = put(here, "norm=bn", seconds={"total": 1})
    put(there, "norm=bn", seconds={"total": 2}, versions={"torch": "9"})
    conflict = put(here, "norm=mn", accuracy=80.0)
    put(there, "norm=mn", accuracy=81.0)
    new = put(there, "norm=ucb")
    open_there = put(there, "norm=bn", seed=1, status="")
    retried = put(here, "norm=bn", seed=2, status="failed")
    put(there, "norm=bn", seed=2)
    before = {run: (here / run / "record.json").read_bytes() for run in (same, conflict)}
    status, out, _ = ask("merge", str(there))
    assert status == 1
    assert "2 copied, 1 here already, 1 in conflict, 1 left out" in out
    line = next(line for line in out.splitlines() if line.startswith(conflict))
    assert "81" in line
    assert open_there not in Store(here).runs()
    assert {run: (here / run / "record.json").read_bytes() for run in before} == before
    for run in (new, retried):
        for name in ("record.json", "history.jsonl", "predictions.npz"):
            assert (here / run / name).read_bytes() == (there / run / name).read_bytes()
    assert ask("merge", str(there))[1].endswith("0 copied, 3 here already, 1 in conflict, 1 left out\n")
    assert sorted(path.name for path in here.glob("*/record.*.json")) == ["record.failed.json"]


@pytest.mark.parametrize("kind", ["pipe", "large"])
def test_merging_takes_neither_pipes_nor_what_is_far_too_large(
    kind: str, ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, other = (put(tmp_path / "there", "norm=bn", seed=seed) for seed in (0, 1))
    path = tmp_path / "there" / run / "partition.pt"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(bytes(100_001))
        monkeypatch.setattr("cbnorm.runs.merge._LARGEST", 100_000)
    _, out, _ = ask("merge", str(tmp_path / "there"))
    assert f"{run}  left out: {path} is no artifact of a run: remove it" in out
    assert Store(tmp_path / "runs").runs() == [other]


def test_what_only_one_of_two_records_tells_is_a_conflict_where_their_numbers_differ(
    ask, tmp_path: Path
) -> None:
    here, there = tmp_path / "runs", tmp_path / "there"
    put(here, "norm=bn")
    put(there, "norm=bn", remeasured=1)
    assert "1 here already, 0 in conflict" in ask("merge", str(there))[1]
    put(there, "norm=bn", accuracy=81.0, a="x" * 100, b=2)
    line = next(line for line in ask("merge", str(there))[1].splitlines() if "conflict, kept" in line)
    assert line.endswith(f"; a: None here, {'x' * 21}... there; and 1 more")


def test_merging_takes_no_links_and_nothing_outside_runs(ask, tmp_path: Path) -> None:
    there = tmp_path / "there"
    run, other = (put(there, "norm=bn", seed=seed) for seed in (0, 1))
    secret = tmp_path / "secret"
    secret.write_text("private")
    (there / run / "predictions.npz").unlink()
    (there / run / "predictions.npz").symlink_to(secret)
    shutil.copytree(there / other, there / "..evil")
    status, out, _ = ask("merge", str(there))
    assert status == 0
    assert f"{run}  left out: cannot read" in out
    assert Store(tmp_path / "runs").runs() == [other]


@pytest.mark.parametrize("accuracy", ["101.0", "-0.5", "1e999"])
def test_a_record_with_an_impossible_accuracy_is_not_believed(accuracy: str, ask, tmp_path: Path) -> None:
    run = put(tmp_path / "runs", "norm=bn")
    path = tmp_path / "runs" / run / "record.json"
    path.write_text(path.read_text().replace('"accuracy": 80.0', f'"accuracy": {accuracy}'))
    assert "not in per cent" in ask("show", run)[2]


def test_a_loss_that_is_no_number_is_not_believed(ask, tmp_path: Path) -> None:
    run = put(tmp_path / "runs", "norm=bn")
    path = tmp_path / "runs" / run / "record.json"
    path.write_text(path.read_text().replace('"loss": 0.5', '"loss": 1e999'))
    assert "a moment without a reading" in ask("show", run)[2]


def test_stores_that_cannot_be_merged_are_refused(ask, tmp_path: Path) -> None:
    put(tmp_path / "runs", "norm=bn")
    assert "is the store itself" in ask("merge", str(tmp_path / "runs"))[2]
    assert "does not exist" in ask("merge", str(tmp_path / "nowhere"))[2]
    put(tmp_path / "later", "norm=ucb")
    (tmp_path / "later/layout.json").write_text('{"layout": 2}')
    assert "update cbnorm" in ask("merge", str(tmp_path / "later"))[2]
    assert len(Store(tmp_path / "runs").runs()) == 1


@pytest.mark.parametrize("words", [[], ["lst"], ["show"], ["diff", "a"], ["rm"], ["list", "force=true"]])
def test_what_is_not_understood_is_one_line(words: list[str], ask) -> None:
    status, out, err = ask(*words)
    assert (status, out, err.count("\n")) == (2, "", 1)


def test_looking_at_runs_needs_no_torch(tmp_path: Path) -> None:
    run = put(tmp_path, "norm=bn")
    code = (
        "import sys; from cbnorm.cli import main\n"
        f"for words in (['list'], ['show', '{run}'], ['diff', '{run}', '{run}']):\n"
        f"    assert main(['runs', *words, 'store={tmp_path}']) == 0\n"
        "assert 'torch' not in sys.modules and 'lightning' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_damaged_epochs_of_a_run_hide_nothing_else(ask, tmp_path: Path) -> None:
    run, other = put(tmp_path / "runs", "norm=bn"), put(tmp_path / "runs", "norm=ucb", status="")
    for name in (run, other):
        (tmp_path / "runs" / name / "history.jsonl").write_text("{no line\n{}\n")
    status, told, _ = ask("list")
    assert status == 0
    assert "damaged" not in told
    lines = {line.split()[0]: line for line in told.splitlines()}
    assert "4/4" in lines[run]
    assert "0/4" in lines[other]
    assert ask("show", run)[0] == ask("diff", run, other)[0] == 0
    assert "history.jsonl, line 1 is damaged" in ask("show", other)[1]
    assert Speeds([Store(tmp_path / "runs")]).samples == []
    assert main(["wandb", "sync", "all=true", "dry=true", f"store={tmp_path / 'runs'}"]) == 0
    planned = [Planned("row", composed("norm=ucb"), other)]
    assert survey(planned, Store(tmp_path / "runs"))[0].epochs == 0


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("status", [], "no terminal status"),
        ("versions", None, "no versions"),
        ("versions", {"commit": 1}, "versions that are no words"),
        ("hardware", "CPU", "no hardware"),
        ("seconds", 3, "no seconds"),
        ("partition", "gmm", "no partition"),
    ],
)
def test_a_record_of_other_types_is_damaged(key: str, value: object, told: str, ask, tmp_path: Path) -> None:
    run = put(tmp_path / "runs", "norm=bn", **{key: value} if key != "status" else {})
    path = tmp_path / "runs" / run / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(CbnormError, match=rf"is damaged \({told}\)"):
        Store(tmp_path / "runs").record(run)


def test_the_last_lines_of_a_failure_are_shown_whole(ask, tmp_path: Path) -> None:
    line = "x" * 150
    run = put(tmp_path / "runs", "norm=bn", status="failed", error={"message": line, "last_lines": [line]})
    assert ask("show", run)[1].count(line) == 2
