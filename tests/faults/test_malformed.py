"""Whatever a file holds: one line that says what and what to do, and nothing else is lost by it."""

import contextlib
import io
import json
import os
import pickle
import random
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cbnorm.cli import main
from cbnorm.config.compose import compose_run
from cbnorm.errors import CbnormError
from cbnorm.report.ledger import read_cells
from cbnorm.runs import checkpoint
from cbnorm.runs.claim import claim, holder
from cbnorm.runs.identity import digest
from cbnorm.runs.plan import read_rows
from cbnorm.runs.store import Store

#: Raise it to look for more: CBNORM_EXAMPLES=2000 pytest tests/faults/test_malformed.py
EXAMPLES = int(os.environ.get("CBNORM_EXAMPLES", "15"))
ODD_VALUES = [None, True, -1, 10**30, 0.5, "", "x" * 300, "\x1b[31m", "../..", [], [[]], {}, {"a": {}}]
ODD_TEXTS = [
    b"",
    b"\n",
    b"null",
    b"[]",
    b"{}",
    b'"',
    b"\xff\xfe\x00",
    b"\0" * 100,
    b"[" * 200_000,
    b'{"layout": NaN}',
    b'{"layout": 1e999}',
    b'{"layout": ' + b"9" * 5000 + b"}",
    b'{"layout": 99}',
]


def mutations(data: bytes, seed: int) -> bytes:
    """Other content for a file, from nearly right to absurd."""
    draw = random.Random(seed)
    kind = draw.choice(["text", "cut", "flip", "value", "value", "value", "key"])
    if kind == "text":
        return draw.choice(ODD_TEXTS)
    if kind == "cut":
        return data[: draw.randrange(len(data))]
    if kind == "flip":
        at = draw.randrange(len(data))
        return data[:at] + bytes([data[at] ^ (1 << draw.randrange(8))]) + data[at + 1 :]
    try:
        content = json.loads(data.splitlines()[0] if data.startswith(b'{"epoch"') else data)
    except ValueError:
        return data[::-1]
    places = list(inner(content))
    holder, key = draw.choice(places)
    if kind == "value":
        holder[key] = draw.choice(ODD_VALUES)
    else:
        del holder[key]
    return json.dumps(content).encode() + b"\n"


def inner(content: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in nested data."""
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in list(items):
        yield content, key
        if isinstance(value, dict | list):
            yield from inner(value)


def ask(*words: str) -> tuple[int, str, str]:
    """Run a command; whatever it says against is one line for people."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(list(words))
    told = err.getvalue()
    assert status in {0, 1, 2}, told
    assert "Traceback" not in told
    assert "unexpected" not in told, told
    assert told.count("\n") <= 1, told
    assert not told or told.startswith("cbnorm: ")
    assert "\x1b" not in out.getvalue()
    return status, out.getvalue(), told


def refusal(call: Callable[[], Any]) -> str | None:
    """The line with which a call is refused; None when it is not; any other exception is a failure."""
    try:
        call()
    except CbnormError as error:
        told = str(error)
    else:
        return None
    assert told.strip()
    assert "\n" not in told
    return told


@pytest.fixture(scope="module")
def copy(undisturbed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two finished runs."""
    folder = tmp_path_factory.mktemp("copy") / "runs"
    shutil.copytree(undisturbed.folder / "runs", folder)
    return folder


@contextlib.contextmanager
def replaced(path: Path, data: bytes) -> Iterator[None]:
    before = path.read_bytes()
    path.write_bytes(data)
    try:
        yield
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("name", ["record.json", "history.jsonl", "run.json"])
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_damaged_files_of_a_run_are_told_of_and_hide_no_other_run(
    name: str, copy: Path, tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    bad, good = Store(copy).runs()
    path, place = copy / bad / name, f"store={copy}"
    record = copy / bad / "record.json"
    # What a run is before its end is read only as long as there is no record.
    hidden = record.read_bytes() if name == "run.json" else None
    with replaced(path, mutations(path.read_bytes(), seed)):
        if hidden:
            record.unlink()
        try:
            status, out, _ = ask("runs", "list", place)
            assert status == 0
            assert any(line.startswith(good) and " done " in line for line in out.splitlines())
            ask("runs", "show", bad, place)
            ask("runs", "diff", good, bad, place)
            with contextlib.suppress(CbnormError):
                assert Store(copy).status(bad) in {"done", "diverged", "failed", None}
            found = tmp_path_factory.mktemp("out")
            status, out, _ = ask("collect", "table5", place, f"out={found / 'tables'}")
            assert status == 0
            # A customised run fills no cell of the table, and is listed with the reason.
            assert f"`{good}` customised" in out
            ask("runs", "merge", str(copy), f"store={found / 'other'}")
            assert Store(found / "other").status(good) == "done"
        finally:
            if hidden:
                record.write_bytes(hidden)


@settings(max_examples=EXAMPLES, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_whatever_the_layout_says_is_refused_in_one_line_or_harmless(copy: Path, seed: int) -> None:
    with replaced(copy / "layout.json", mutations((copy / "layout.json").read_bytes(), seed)):
        status, _, told = ask("runs", "list", f"store={copy}")
        assert (status == 0) != bool(told)


def test_a_store_or_record_from_the_future_is_refused_politely(copy: Path, tmp_path: Path) -> None:
    run = Store(copy).runs()[0]
    with replaced(copy / "layout.json", b'{"layout": 2}'):
        assert "update cbnorm" in ask("runs", "list", f"store={copy}")[2]
        assert "update cbnorm" in ask("runs", "merge", str(copy), f"store={tmp_path / 'other'}")[2]
        assert not (tmp_path / "other").exists()
    record = json.loads((copy / run / "record.json").read_text())
    with replaced(copy / run / "record.json", json.dumps(record | {"layout": 2}).encode()):
        assert "update cbnorm" in ask("runs", "show", run, f"store={copy}")[2]
        with pytest.raises(CbnormError, match="update cbnorm"):
            Store(copy).status(run)


def test_an_edited_record_is_not_believed(copy: Path) -> None:
    run = Store(copy).runs()[0]
    record = json.loads((copy / run / "record.json").read_text())
    record["identity"]["config"]["optimizer"]["lr"] = 0.5
    for edited in (record, record | {"id": digest(record["identity"])}):
        with replaced(copy / run / "record.json", json.dumps(edited).encode()):
            assert "its id is not that of its content" in ask("runs", "show", run, f"store={copy}")[2]


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_no_claim_stops_work_for_longer_than_its_lifetime(tmp_path: Path, seed: int) -> None:
    folder = tmp_path / f"{seed}"
    folder.mkdir()
    with claim(folder):
        data = (folder / "claim.json").read_bytes()
    path = folder / "claim.json"
    path.write_bytes(mutations(data, seed))
    found = holder(folder)
    assert found is None or isinstance(found, dict)
    os.utime(path, (0, 0))
    alive = found is not None and found.get("pid") == os.getpid() and found.get("place")
    with claim(folder) as held:
        # Only a claim that names this very process, which lives, can still keep it.
        assert held is not None or alive


@pytest.mark.parametrize("kind", ["folder", "loop", "dangling"])
@pytest.mark.parametrize("name", ["record.json", "history.jsonl", "run.json", "claim.json"])
def test_what_is_no_file_is_told_of(kind: str, name: str, undisturbed, tmp_path: Path) -> None:
    shutil.copytree(undisturbed.folder / "runs", tmp_path / "runs")
    bad, good = Store(tmp_path / "runs").runs()
    path = tmp_path / "runs" / bad / name
    path.unlink(missing_ok=True)
    if kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(path if kind == "loop" else tmp_path / "nowhere")
    place = f"store={tmp_path / 'runs'}"
    assert good in ask("runs", "list", place)[1]
    ask("runs", "merge", str(tmp_path / "runs"), f"store={tmp_path / 'other'}")
    assert Store(tmp_path / "other").status(good) == "done"
    assert not (tmp_path / "nowhere").exists()
    if (tmp_path / "other" / bad / name).exists():
        assert (tmp_path / "other" / bad / name).is_file()


STATE = {"run": "0123456789ab", "model": {"weight": torch.arange(6.0)}, "batch": 1}


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.target}",)


def newest(folder: Path) -> dict | None:
    return next((state for _, state in checkpoint.states(folder, run="0123456789ab")), None)


def sealed(data: bytes) -> bytes:
    """A checkpoint of any content with the right checksum."""
    import hashlib

    return b"cbnorm checkpoint 1 " + hashlib.sha256(data).hexdigest().encode() + b"\n" + data


def test_a_malicious_checkpoint_runs_nothing_and_is_set_aside(tmp_path: Path, capfd) -> None:
    checkpoint.save(tmp_path, STATE)
    shutil.copy(tmp_path / "checkpoint.pt", tmp_path / "checkpoint.previous.pt")
    bait = tmp_path / "bait"
    as_archive = io.BytesIO()
    torch.save({"run": "0123456789ab", "model": Evil(bait)}, as_archive)
    for data in (pickle.dumps(Evil(bait)), pickle.dumps({"run": Evil(bait)}), as_archive.getvalue()):
        (tmp_path / "checkpoint.pt").write_bytes(sealed(data))
        state = newest(tmp_path)
        assert torch.equal(state["model"]["weight"], STATE["model"]["weight"])
        assert not bait.exists()
        told = capfd.readouterr().err
        assert told.startswith("cbnorm: ")
        assert "checkpoint.damaged.pt" in told
        assert not (tmp_path / "checkpoint.pt").exists()


def test_an_archive_with_names_outside_its_folder_writes_nothing(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../../escaped/data.pkl", pickle.dumps({"run": "0123456789ab"}))
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    (folder / "checkpoint.pt").write_bytes(sealed(buffer.getvalue()))
    assert newest(folder) is None
    assert not list(tmp_path.rglob("escaped"))


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_any_other_bytes_are_no_checkpoint(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    folder = tmp_path / f"{seed}"
    folder.mkdir(exist_ok=True)
    checkpoint.save(folder, STATE)
    data = (folder / "checkpoint.pt").read_bytes()
    body = data.partition(b"\n")[2]
    at = draw.randrange(len(body))
    hurt = [body[:at], body[:at] + bytes([body[at] ^ 255]) + body[at + 1 :], b"", draw.randbytes(100)]
    other = draw.choice([*hurt, *(sealed(part) for part in hurt), data[: draw.randrange(len(data))]])
    (folder / "checkpoint.pt").write_bytes(other)
    state = newest(folder)
    # A byte that the archive does not protect may differ under a checksum that was made to fit.
    assert state is None or (other.startswith(b"cbnorm") and state["run"] == "0123456789ab")


def test_a_checkpoint_of_the_future_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"cbnorm checkpoint 2 abc\n")
    with pytest.raises(CbnormError, match="later cbnorm"):
        newest(tmp_path)


@pytest.mark.parametrize("name", ["rows.csv", "cells.csv"])
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_damaged_ledgers_are_one_line(name: str, tmp_path: Path, seed: int) -> None:
    from cbnorm.config.locations import experiments_dir

    folder = tmp_path / f"{seed}" / "table5"
    shutil.copytree(experiments_dir() / "table5", folder)
    path, draw = folder / name, random.Random(seed)
    data = path.read_bytes()
    line = draw.choice(data.splitlines())
    hurt = draw.choice([b'"', b"a,b", b",,,,,,", b"nan", b"\xff", b"\0", b"1e999,1,x,-5", b"x" * 200_000])
    without_commas = data.replace(b",", draw.choice([b";", b""]))
    path.write_bytes(draw.choice([*ODD_TEXTS, data.replace(line, hurt), without_commas]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cbnorm.config.choices.experiments_dir", lambda: folder.parent)
        for read in (read_rows, read_cells):
            told = refusal(lambda read=read: read("table5"))
            assert told is None or name in told


def test_an_experiment_of_our_own_has_no_published_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "table5").mkdir()
    monkeypatch.setattr("cbnorm.config.choices.experiments_dir", lambda: tmp_path)
    assert not read_cells("table5")


KEYS = "norm seed store optimizer.lr model.placement +x ~norm ++norm.eps dataset hydra.run.dir trainer norm@x"
VALUES = "${oc.env:NOPE} ${seed} [1, {a:b} null 1e400 -1 nan inf [[1]] ??? ' bn,mn ${norm} ${nope} true 0x10"
WORDS = st.one_of(
    st.text(max_size=20),
    st.tuples(
        st.sampled_from([*KEYS.split(), "defaults", "experiment", "budget"]),
        st.sampled_from(["=", ":=", "", "=="]),
        st.one_of(st.text(max_size=10), st.sampled_from([*VALUES.split(), "9" * 21])),
    ).map("".join),
)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=2))
def test_whatever_is_written_behind_a_command_is_a_config_or_one_line(words: list[str]) -> None:
    refusal(lambda: compose_run(words))
