"""Hydra's launchers carry runs to other processes and machines, where a notice of the end loses nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cbnorm.runs.interruption import hand_on, requested, stop_signals
from cbnorm.runs.store import Store

TINY = [
    "budget=smoke",
    "dataset.train_images=30",
    "dataset.val_images=20",
    "dataset.test_images=20",
    "trainer.batch_size=10",
    "trainer.precision=fp32",
]
#: Long enough to be met in the middle.
LONGER = [*TINY, "dataset.train_images=60", "trainer.max_epochs=8", "norm=ucb"]
_SINFO = shutil.which("sinfo")
_UP = _SINFO is not None and subprocess.run([_SINFO, "-h"], capture_output=True, check=False).returncode == 0


def train(*words: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cbnorm", "train", *words]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder, env=os.environ
    )


def until(condition: Callable[[], Any], seconds: float = 120) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)
    return found


def numbers(store: Store) -> dict[str, dict[str, Any]]:
    """Every record without time and place."""
    incidental = {"seconds", "versions", "hardware"}
    return {r["id"]: {k: v for k, v in r.items() if k not in incidental} for r in store.survey()[0]}


@pytest.mark.parametrize("launcher", ["submitit_local", pytest.param("joblib", marks=pytest.mark.slow)])
def test_a_sweep_through_a_launcher_leaves_what_a_plain_one_does(launcher: str, tmp_path: Path) -> None:
    words = ["-m", *TINY, "norm=bn,ucb"]
    sweep = train(*words, f"store={tmp_path / 'runs'}", f"hydra/launcher={launcher}", folder=tmp_path)
    out, _ = sweep.communicate(timeout=280)
    assert sweep.returncode == 0, out
    found = numbers(Store(tmp_path / "runs"))
    assert [record["status"] for record in found.values()] == ["done", "done"]
    assert {record["config"]["norm"]["name"] for record in found.values()} == {"bn", "ucb"}
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}


def test_an_unknown_launcher_is_refused_in_one_line(tmp_path: Path) -> None:
    sweep = train("-m", *TINY, "norm=bn,ucb", "hydra/launcher=submitit_slrum", folder=tmp_path)
    out, _ = sweep.communicate(timeout=120)
    assert sweep.returncode == 2
    assert len(out.splitlines()) == 1
    assert "submitit_slrum" in out


def test_a_notice_reaches_who_waited_for_it_once_the_run_is_saved() -> None:
    """Submitit handles SIGUSR2; a run takes the signal first, whichever notice it is, and hands it on."""
    seen: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda number, _: seen.append(number))
    try:
        for notice in (signal.SIGUSR1, signal.SIGUSR2):
            with stop_signals():
                signal.raise_signal(notice)
                assert requested()
                assert not seen
            hand_on()
            assert seen == [signal.SIGUSR2]
            seen.clear()
        with stop_signals():
            signal.raise_signal(signal.SIGTERM)
        hand_on()
        assert not seen
    finally:
        signal.signal(signal.SIGUSR2, before)


@pytest.mark.slurm
@pytest.mark.skipif(not _UP, reason="there is no Slurm: scripts/one_node_slurm.sh start")
class TestSlurm:
    WORDS = ("-m", "hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=60")

    def test_a_smoke_sweep_goes_through_sbatch(self, tmp_path: Path) -> None:
        sweep = train(*self.WORDS, *TINY, "norm=bn,scb", f"store={tmp_path}", folder=tmp_path)
        out, _ = sweep.communicate(timeout=280)
        assert sweep.returncode == 0, out
        assert [r["status"] for r in Store(tmp_path).survey()[0]] == ["done", "done"]
        assert list((tmp_path / ".hydra" / ".submitit").glob("*/*_submission.sh"))

    def test_a_job_that_is_given_notice_is_queued_again_and_goes_on_exactly(self, tmp_path: Path) -> None:
        plain = train(*LONGER, f"store={tmp_path / 'plain'}", folder=tmp_path)
        out, _ = plain.communicate(timeout=280)
        assert plain.returncode == 0, out
        store = Store(tmp_path / "queued")
        sweep = train(*self.WORDS, *LONGER, f"store={store.root}", folder=tmp_path)
        run = until(lambda: [r for r in store.runs() if store.history(r)])[0]
        job = next((store.root / ".hydra" / ".submitit").glob("*/*_submitted.pkl")).parent.name
        subprocess.run(["scancel", "--signal=USR1", job], check=True)
        until((store.folder(run) / "checkpoint.pt").exists)
        assert store.record(run) is None
        # Slurm waits two minutes before a job that was queued again may start; an operator may hurry it.
        until(lambda: state(job).get("Restarts") == "1" and state(job)["JobState"] == "PENDING")
        subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], check=True)
        out, _ = sweep.communicate(timeout=280)
        assert sweep.returncode == 0, out
        assert state(job)["Restarts"] == "1"
        assert numbers(store) == numbers(Store(tmp_path / "plain"))
        histories = [
            [{k: v for k, v in row.items() if k != "seconds"} for row in s.history(run)]
            for s in (store, Store(tmp_path / "plain"))
        ]
        assert histories[0] == histories[1]


def state(job: str) -> dict[str, str]:
    shown = subprocess.run(["scontrol", "-o", "show", "job", job], capture_output=True, text=True, check=True)
    return dict(word.split("=", 1) for word in shown.stdout.split() if "=" in word)


def test_the_launchers_are_extras_of_the_package() -> None:
    from importlib.metadata import metadata

    extras = metadata("cbnorm").get_all("Provides-Extra") or []
    assert {"slurm", "joblib", "ray"} <= set(extras), json.dumps(extras)
