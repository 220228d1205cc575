"""The contestants of the training benchmark train the same network on the same batches, in turns."""

import csv
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def contestants() -> ModuleType:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        return importlib.import_module("train_contestants")
    finally:
        sys.path.pop(0)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """With several threads sums are added in another order every time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def raced(
    contestants: ModuleType, kind: str, orders: list[str], **options: Any
) -> tuple[Any, list[dict[str, Any]]]:
    """What a contestant trained by these orders, and its answers."""
    settings = contestants.Settings(batch=4, images=3, workers=0, **options)
    given, answers = iter([*orders, ""]), []
    turns = contestants.Turns(lambda: next(given), answers.append, settings)
    return contestants.KINDS[kind](settings, turns), answers


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_the_hand_written_loop_trains_what_the_engine_trains(contestants: ModuleType, precision: str) -> None:
    models = [
        raced(contestants, kind, ["1 2", "0 1"], precision=precision)[0]
        for kind in ("hand", "engine", "loop")
    ]
    start = contestants.task_of(contestants.Settings(batch=4).config(), contestants.Settings()).model
    for (name, a), b, c in zip(
        models[0].named_parameters(), *(m.parameters() for m in models[1:]), strict=True
    ):
        assert torch.equal(a, b), name
        assert torch.equal(a, c), name
    assert not torch.equal(models[0].convs[0].weight, start.convs[0].weight)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["hand", "engine", "loop", "loader"])
def test_a_contestant_answers_every_order(contestants: ModuleType, kind: str) -> None:
    _, answers = raced(contestants, kind, ["1 1", "0 2"])
    assert answers[0] == {"first": True}
    assert [set(answer) for answer in answers[1:]] == [{"seconds", "cpu", "peak"}] * 2
    assert all(answer["seconds"] > 0 and answer["peak"] > 100 for answer in answers[1:])


def test_epochs_say_what_is_not_a_step(contestants: ModuleType) -> None:
    _, (answer,) = raced(contestants, "epochs", [])
    assert answer["images"] == 12
    assert answer["reading"] > 0
    assert answer["save"] > 0
    assert 0 < answer["steps"] <= 1.1 * answer["training"] + 0.05


class Scripted:
    """A process that needs 10 ms an image, half of that in a hand-written loop."""

    def __init__(self, kind: str, settings: Any) -> None:
        self.kind, self.settings, self.batch = kind, settings, settings.batch or 256
        self.first, self.warm, self.steps = 2.0, 1, 0

    def ready(self) -> None:
        pass

    leave = ready

    def ask(self, _warm: int, steps: int) -> None:
        self.steps = steps

    def answer(self) -> dict[str, Any]:
        if self.kind == "check":
            return {"largest": 0.0}
        seconds = self.steps * self.batch * (0.005 if self.kind == "hand" else 0.01)
        epoch = {"training": 6.0, "steps": 5.2, "reading": 2.0, "save": 0.2}
        return epoch | {"seconds": seconds, "cpu": seconds / 2, "peak": 100.0}


def test_the_table_holds_ratios_to_the_limit_sums_and_shares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, contestants: ModuleType
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    bench = importlib.import_module("bench_train")
    monkeypatch.setattr(bench, "Contestant", Scripted)
    monkeypatch.setattr("sys.argv", ["bench_train.py", "--out", str(tmp_path)])
    bench.main()
    with (tmp_path / "train.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["part"] for row in rows} == {"networks", "batch", "resolution", "at_once"}
    first = {row["contestant"]: row for row in rows[:6]}
    assert [float(first[key]["images_per_second"]) for key in ("hand", "engine", "packed")] == [200, 100, 200]
    assert [float(first[key]["of_limit"]) for key in ("hand", "engine", "packed")] == [1, 0.5, 1]
    assert float(first["engine"]["cpu_ms"]) == float(first["packed"]["cpu_ms"]) == 5
    # Of eight seconds two are reading and 0.8 neither; 0.2 seconds are spent saving every 20.
    shares = [first["engine"][key] for key in ("reading_share", "rest_share", "saving_share")]
    assert [float(share) for share in shares] == [0.25, 0.1, 0.0099]
    at_once = [float(row["images_per_second"]) for row in rows if row["part"] == "at_once"]
    assert at_once == [100, 200, 300, 400]
    assert (tmp_path / "train.png").stat().st_size > 10_000


def test_a_contestant_is_a_process_that_answers(
    monkeypatch: pytest.MonkeyPatch, contestants: ModuleType
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    bench = importlib.import_module("bench_train")
    started = bench.Contestant("check", contestants.Settings(batch=4, images=2))
    assert started.answer() == {"largest": 0.0}
    started.leave()
