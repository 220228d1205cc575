"""`cbnorm report` and `cbnorm figures`: what they write, and what they refuse in one line."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from cbnorm.cli import main
from cbnorm.report.page import today
from cbnorm.report.page_tables import machine
from cbnorm.runs.store import Store


@pytest.fixture
def store(making: SimpleNamespace, tmp_path: Path) -> Path:
    return making.write(tmp_path / "store", making.table({"BN-1": [70.0], "SCB-Norm-1": [71.0]}))


def test_the_report_is_one_file(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page" / "report.html"
    assert main(["report", f"store={store}", f"out={page}"]) == 0
    assert f"{page}: 0." in capsys.readouterr().out
    assert [path.name for path in page.parent.iterdir()] == ["report.html"]
    assert page.stat().st_size < 10**6


def test_without_matplotlib_the_report_has_no_figures_and_says_so(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("cbnorm.report.front.find_spec", lambda name: None)
    assert main(["report", f"store={store}", f"out={tmp_path / 'report.html'}"]) == 0
    assert "cbnorm[figures]" in capsys.readouterr().out
    assert "<svg" not in (tmp_path / "report.html").read_text(encoding="utf8")


def test_figures_are_drawn_once(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["figures", f"store={store}", f"out={tmp_path / 'figures'}"]
    assert main(command) == 0
    first = capsys.readouterr().out
    assert "forest: csv, svg, png" in first
    assert "figure 13: skipped, table7 has no runs" in first
    assert main(command) == 0
    assert "forest: up to date" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["report", "store=nowhere"], "there is no store nowhere"),
        (["figures", "store=nowhere"], "there is no store nowhere"),
        (["figures", "looks=nowhere", "store=tests"], "there is no folder nowhere: cbnorm look"),
        (["report", "store=tests", "out=tests"], "out=tests is a folder: name a file"),
        (["collect", "table5", "store="], "store= names no folder"),
        (["explain", "c10-mean", "store="], "store= names no folder"),
        (["runs", "merge", "tests"], "there are no runs in tests"),
        (["report", "table5"], "'table5' means nothing to report"),
        (["figures", "colour=red"], "'colour=red' means nothing to figures"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_one_line(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_the_date_of_a_page_can_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    assert today() == "1970-01-02"


def test_machines_are_told_with_their_threads() -> None:
    assert machine({"hardware": {"cpu": "C", "threads": 2}}) == "C, 2 threads per run"
    assert machine({"hardware": {"gpu": "G", "cpu": "C", "threads": 1}}) == "G, 1 thread per run"
    assert machine({}) == "unknown"


def test_looks_lie_where_look_leaves_them_and_those_of_other_runs_are_told_of(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    looks = tmp_path / "looks"
    looks.mkdir()
    (looks / "0123456789ab.npz").write_bytes(b"")
    assert main(["figures", f"store={store}", f"out={tmp_path / 'figures'}", f"looks={looks}"]) == 0
    told = capsys.readouterr().out
    assert f"figure 2: skipped, 1 looks in {looks} are of other runs" in told
    # Half a file of a run that is here is as good as none.
    (looks / f"{next(iter(Store(store).runs()))}.npz").write_bytes(b"PK\3\4half")
    assert main(["figures", f"store={store}", f"out={tmp_path / 'figures'}", f"looks={looks}"]) == 0
    assert f"figure 2: skipped, 1 looks in {looks} are of other runs" in capsys.readouterr().out
