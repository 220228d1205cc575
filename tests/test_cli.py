"""The command line as a whole; what each command does is tested beside it."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cbnorm.cli import COMMANDS, USAGE, main
from cbnorm.runs.interruption import RunInterruptedError


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_answers_and_says_how_it_is_written(name: str, capsys) -> None:
    module, function = COMMANDS[name].split(":")
    assert callable(getattr(importlib.import_module(module), function))
    assert f"  cbnorm {name} " in USAGE
    if name == "train":  # that is Hydra's
        return
    for word in ("--help", "-h"):
        assert main([name, word]) == 0
        told = capsys.readouterr().out
        assert told.splitlines()[0].startswith(f"  cbnorm {name} ")
        assert told.count("  cbnorm ") == 1


def test_an_unknown_command_is_refused_in_one_line(capsys) -> None:
    assert main(["reprodce", "--help"]) == 2
    assert capsys.readouterr().err == "cbnorm: unknown command 'reprodce': did you mean 'reproduce'?\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["reproduce", "table5", "budget=smoke", "seed=3"], "a table takes seeds=3"),
        (["campaign", "table5", "budget=smoke", "seed=3", "dry=true"], "a table takes seeds=3"),
        (["campaign", "k_sweep", "rows=controls", "dry=true"], "k_sweep has no controls"),
    ],
)
def test_what_a_table_cannot_take_is_refused_in_one_line(words: list[str], message: str, capsys) -> None:
    assert main(words) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(("stop", "status"), [(KeyboardInterrupt(), 130), (RunInterruptedError("saved"), 75)])
def test_what_was_interrupted_ends_with_a_status_of_its_own(
    stop: BaseException, status: int, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def command(words: list[str]) -> int:
        raise stop

    monkeypatch.setattr("cbnorm.cli._command", lambda name: command)
    assert main(["collect", "all"]) == status
    assert capsys.readouterr().err.count("\n") == 1


def test_options_that_nothing_reads_are_told_with_the_choice_that_ignores_them(capsys) -> None:
    words = ["optimizer.nesterov=false", "model.depth=40", "model.variant=bc", "task.samples=100"]
    words += ["norm.components=5", "norm.eps=1e-3", "optimizer.factor=0.5", "optimizer.lr=0.1"]
    assert main(["train", "norm=bn", *words, "--cfg", "job"]) == 0
    assert capsys.readouterr().err.splitlines() == [
        "cbnorm: model.depth, model.variant: ignored by model=shallow_cnn",
        "cbnorm: norm.components: ignored by norm=bn",
        "cbnorm: optimizer.factor: ignored by optimizer.schedule=constant",
        "cbnorm: optimizer.nesterov: ignored by optimizer=adamw",
        "cbnorm: task.samples: ignored by task=classification",
    ]


@pytest.mark.parametrize("sweep", [[], ["-m", "seed=0,1"]])
def test_training_goes_on_when_nobody_reads_its_progress(sweep: list[str], tmp_path: Path) -> None:
    short = ["trainer.max_epochs=2", "trainer.moments=[100]"]
    words = [*sweep, "budget=smoke", "dataset=digits", *short, f"store={tmp_path}"]
    command = [sys.executable, "-m", "cbnorm", "train", *words]
    read, write = os.pipe()
    with subprocess.Popen(command, stdout=write, stderr=write) as process:
        os.close(write)
        os.close(read)
        assert process.wait() == 0
    records = [json.loads(path.read_text()) for path in tmp_path.glob("*/record.json")]
    assert [record["status"] for record in records] == ["done"] * (2 if sweep else 1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_output_on_a_full_disk_is_refused_in_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        told = subprocess.run(
            [sys.executable, "-m", "cbnorm", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert told.returncode == 2
    assert told.stderr == "cbnorm: the output can't be written: No space left on device\n"
