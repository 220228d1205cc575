"""Full disks and folders that may not be written: one line, nothing lost, and the sweep goes on later."""

import json
import os
import re
import stat
from pathlib import Path

import pytest

from cbnorm.cli import main

FILE_EVENTS = r"^(open|write|sync|replace|remove):"


def fails_once(disturbed, undisturbed, nth: int, action: str) -> str:
    """Let the n-th file operation fail; returns what the user was told."""
    status = disturbed.sweep(fault={"at": FILE_EVENTS, "nth": nth, "action": action})
    told = disturbed.errors
    assert status in {0, 2}, told
    assert "Traceback" not in told
    if status == 2:
        reason = os.strerror(getattr(__import__("errno"), action))
        assert re.fullmatch(rf"cbnorm: cannot write \S+: {reason}; .*run again\n", told), told
    for path in disturbed.folder.glob("runs/*/record.json"):
        json.loads(path.read_text())
    assert disturbed.sweep() == 0, disturbed.errors
    assert disturbed.outcome() == undisturbed.outcome()
    return told


@pytest.mark.parametrize(("eighth", "action"), [(0, "ENOSPC"), (2, "EACCES"), (4, "ENOSPC"), (7, "EROFS")])
def test_a_write_that_fails_is_one_line_and_loses_nothing(
    eighth, action, disturbed, undisturbed, occasions
) -> None:
    fails_once(disturbed, undisturbed, 1 + occasions(FILE_EVENTS) * eighth // 8, action)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_whichever_write_fails(kitchen, tmp_path, undisturbed, occasions) -> None:
    count, told = occasions(FILE_EVENTS), 0
    for nth in range(1, count + 1):
        store = type(undisturbed)(kitchen, tmp_path / f"{nth}")
        store.folder.mkdir()
        told += bool(fails_once(store, undisturbed, nth, ("ENOSPC", "EACCES")[nth % 2]))
    print(f"{count} writes failed in turn: {told} told in one line, the others did not matter")
    assert told > count / 2


@pytest.fixture
def read_only(undisturbed, tmp_path: Path):
    """A copy of a finished store that nobody may write, as far as the user is not root."""
    import shutil

    copy = tmp_path / "runs"
    shutil.copytree(undisturbed.folder / "runs", copy)
    paths = [copy, *copy.rglob("*")]
    for path in paths:
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    yield copy
    for path in paths:
        path.chmod(0o755)


def test_a_finished_store_can_be_read_where_nothing_can_be_written(
    read_only: Path, tmp_path: Path, capsys
) -> None:
    before = {path: path.stat().st_mtime_ns for path in read_only.rglob("*")}
    assert main(["runs", "list", f"store={read_only}"]) == 0
    assert capsys.readouterr().out.count(" done ") == 2
    assert main(["collect", "table5", f"store={read_only}", f"out={tmp_path / 'tables'}"]) == 0
    assert main(["runs", "merge", str(read_only), f"store={tmp_path / 'other'}"]) == 0
    assert {path: path.stat().st_mtime_ns for path in read_only.rglob("*")} == before


@pytest.mark.parametrize("words", [["collect", "table5"], ["runs", "list"], ["runs", "merge", "elsewhere"]])
def test_a_store_that_is_a_file_is_refused(words: list[str], tmp_path: Path, capsys) -> None:
    (tmp_path / "file").write_text("not a folder")
    assert main([*words, f"store={tmp_path / 'file'}"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("cbnorm: store ")
    assert "is a file" in told
    assert (tmp_path / "file").read_text() == "not a folder"
