"""jobs=auto: the number of runs at once that trains the most images per second here."""

import multiprocessing
import os
import signal
import time
from threading import Timer

import pytest

from cbnorm.config.compose import compose_run
from cbnorm.config.schema import RunConfig
from cbnorm.errors import CbnormError
from cbnorm.runs import packing, sweep
from cbnorm.runs.interruption import RunInterruptedError, requested, stop_signals
from cbnorm.runs.packing import best, counts_up_to, measure, measured_jobs, parse_jobs
from cbnorm.runs.plan import Planned, plan


@pytest.fixture
def tiny() -> RunConfig:
    return compose_run(["budget=smoke", "dataset.train_images=30", "trainer.batch_size=10"])


@pytest.mark.parametrize("text", ["0", "-1", "many", "", "1.5"])
def test_only_numbers_and_auto_are_understood(text: str) -> None:
    with pytest.raises(CbnormError, match=f"jobs={text} must be auto or a whole number"):
        parse_jobs(text)


def test_a_little_more_speed_is_not_worth_another_process() -> None:
    assert best({1: 100.0, 2: 102.0, 4: 102.9}) == 1
    assert best({1: 100.0, 2: 150.0, 4: 90.0}) == 2
    assert best({1: 100.0, 2: 150.0, 3: 160.0}) == 3


def test_all_cores_are_tried_and_powers_of_two() -> None:
    assert [counts_up_to(most) for most in (1, 2, 3, 8)] == [[1], [1, 2], [1, 2, 3], [1, 2, 4, 8]]


def test_processes_train_together_and_their_speeds_are_added(tiny: RunConfig) -> None:
    speeds = measure(tiny, [1, 2], seconds=0.2)
    assert speeds.keys() == {1, 2}
    assert min(speeds.values()) > 0


def test_what_is_found_is_said_and_taken(
    tiny: RunConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(packing, "measure", lambda *_, **__: {1: 400.0, 2: 655.0})
    assert measured_jobs(tiny, 2) == 2
    said = capsys.readouterr().err
    assert said.startswith("jobs=2: images/s of all runs together")
    assert "1 at once 400, 2 at once 655" in said
    assert said.count("\n") == 1


def test_no_more_are_tried_than_there_are_runs_and_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[RunConfig, int]] = []
    monkeypatch.setattr(sweep, "measured_jobs", lambda config, most: asked.append((config, most)) or most)
    monkeypatch.setattr("cbnorm.runs.sweep.cores", lambda: 8)
    planned: list[Planned] = plan("table5", ["trainer.threads=2"])
    assert sweep._count("auto", planned) == 4
    assert sweep._count("auto", planned[:3]) == 3
    assert sweep._count(5, planned) == 5
    assert asked == [(planned[0].config, 4), (planned[0].config, 3)]


def test_who_is_asked_to_stop_while_it_measures_stops(tiny: RunConfig) -> None:
    Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
    began = time.monotonic()
    with pytest.raises(RunInterruptedError, match="stopped while jobs=auto measured"):
        measure(tiny, [1, 2], seconds=300)
    assert time.monotonic() < began + 60
    assert multiprocessing.active_children() == []
    with stop_signals():  # forgets the request, which is none of the next test's
        assert not requested()
