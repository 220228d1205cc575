"""Odd environment variables are refused in one line, or do no harm."""

from pathlib import Path

import pytest

from cbnorm.cli import main
from cbnorm.config.compose import compose_run
from cbnorm.errors import CbnormError
from cbnorm.runs.execute import execute
from cbnorm.runs.loggers import wandb_mode
from cbnorm.runs.store import Store


@pytest.fixture(params=["file", "below a file", "nobody's", "not text", "too long", "loop", "control signs"])
def odd_folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    (tmp_path / "file").write_text("kept")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    return {
        "file": f"{tmp_path}/file",
        "below a file": f"{tmp_path}/file/data",
        "nobody's": "~no-such-user-here/data",
        "not text": f"{tmp_path}/loop/\udcff\udcfe",
        "too long": f"{tmp_path}/{'x' * 5000}",
        "loop": f"{tmp_path}/loop",
        "control signs": f"{tmp_path}/file/\n\x1b[31m",
    }[request.param]


def lines(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    status = main(words)
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    assert "unexpected" not in told.err
    assert "\x1b" not in told.err
    return status, told.err.splitlines()


def test_a_data_folder_that_cannot_be_is_one_line(
    odd_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setenv("CBNORM_DATA_DIR", odd_folder)
    status, told = lines(["data", "fetch", "cifar10"], capsys)
    assert (status, len(told)) == (2, 1)
    assert told[0].startswith("cbnorm: ")
    assert lines(["data", "list"], capsys)[0] in {0, 2}
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize("words", [["runs", "list"], ["collect", "table5"], ["runs", "merge", "nowhere"]])
def test_a_store_that_cannot_be_is_one_line(
    odd_folder: str, words: list[str], tmp_path: Path, capsys
) -> None:
    status, told = lines([*words, f"store={odd_folder}"], capsys)
    assert (status, len(told)) == (2, 1)
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize("words", [["runs", "list", "store="], ["collect", "table5", "store= "]])
def test_no_store_is_not_this_folder(words: list[str], capsys) -> None:
    status, told = lines(words, capsys)
    assert (status, len(told)) == (2, 1)
    assert "names no folder" in told[0]


def test_an_unknown_mode_of_wandb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "on-line")
    with pytest.raises(CbnormError, match="WANDB_MODE=on-line"):
        wandb_mode()


def test_lightnings_variables_cannot_change_a_run_unseen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PL_TRAINER_GRADIENT_CLIP_VAL", "0.1")
    with pytest.raises(CbnormError, match="PL_TRAINER_GRADIENT_CLIP_VAL is set"):
        execute(compose_run(["budget=smoke"]), Store(tmp_path))
    assert not list(tmp_path.glob("*/record.json"))


def test_an_error_that_nobody_thought_of_is_one_line_too(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def burst(_: object) -> int:
        raise ZeroDivisionError("first line\nsecond line")

    monkeypatch.setattr("cbnorm.data.commands.data_command", burst)
    monkeypatch.setenv("CBNORM_DEBUG", "0")
    assert main(["data", "list"]) == 70
    told = capsys.readouterr().err
    assert told.startswith("cbnorm: unexpected ZeroDivisionError: first line (--debug")
    assert told.count("\n") == 1
    with pytest.raises(ZeroDivisionError):
        main(["--debug", "data", "list"])
