"""A campaign fills a table in pieces, and whatever ends them, it leaves what one piece would have left."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cbnorm import machine
from cbnorm.config.compose import compose_run
from cbnorm.errors import CbnormError
from cbnorm.report.collect import collect
from cbnorm.report.tables import write_tables
from cbnorm.runs import speed
from cbnorm.runs.campaign import SAVING, Part, in_order, limit_of, plan_campaign
from cbnorm.runs.campaign_commands import read
from cbnorm.runs.claim import holder
from cbnorm.runs.identity import run_id
from cbnorm.runs.limit import Limit
from cbnorm.runs.merge import merge
from cbnorm.runs.speed import Cost, Speeds
from cbnorm.runs.store import CHECKPOINTS, Store
from cbnorm.runs.worker import work

pytestmark = pytest.mark.alone

TINY = [
    "budget=smoke",
    "dataset.train_images=30",
    "dataset.val_images=20",
    "dataset.test_images=20",
    "trainer.batch_size=10",
    "trainer.precision=fp32",
]
ROWS = ["BN-1", "SCB-Norm-2", "UCB-Norm-1"]
ORDER = [f"{row} {seed}" for seed in (0, 1) for row in ROWS]
WORDS = ["campaign", "table5", *TINY, f"rows={','.join(ROWS)}", "seeds=0,1", "jobs=1"]


class Campaigner:
    """The process of campaigner.py."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("campaigner.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert self.process.stdout.readline() == "ready\n"

    def begin(self, *words: str, start: float = 0.5, saving: float = 0.5) -> int:
        """Start a session; its process id."""
        self.process.stdin.write(json.dumps([[*WORDS, *words], start, saving]) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end(self) -> tuple[int, str]:
        """Wait for a session: its exit status and what it printed."""
        said = ""
        while not (line := self.process.stdout.readline()).startswith("exit "):
            assert line, "the campaigner is gone"
            said += line
        return int(line.split()[1]), said


@pytest.fixture(scope="module")
def campaigner() -> Iterator[Campaigner]:
    found = Campaigner()
    yield found
    found.process.stdin.close()
    found.process.wait(timeout=60)
    found.process.stdout.close()


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def table(store: Store) -> bytes:
    records, damaged = store.survey()
    filters = {"dataset": "digits", "protocol": "sound", "budget": "smoke"}
    found = collect("table5", records, filters=filters, overrides=TINY[1:], damaged=damaged)
    paths = write_tables(found, store.root / "tables")
    return b"".join(path.read_bytes() for path in paths)


def epochs(store: Store) -> int:
    return sum(len(store.history(run)) for run in store.runs())


def begun(store: Store) -> list[str]:
    """Rows and seeds in the order in which their runs were begun."""
    known = {item.id: f"{item.row} {item.config.seed}" for item in campaign_plan()}
    paths = sorted(store.root.glob("*/run.json"), key=lambda path: path.stat().st_mtime_ns)
    return [known[path.parent.name] for path in paths]


def campaign_plan() -> list[Any]:
    return plan_campaign(["table5"], TINY, seeds=[0, 1], labels=ROWS)


@pytest.fixture(scope="module")
def undisturbed(campaigner: Campaigner, tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("undisturbed"))
    campaigner.begin(f"store={store.root}")
    status, said = campaigner.end()
    assert status == 0
    assert "6 of 6 runs ended, 0 begun, 0 not begun\n" in said
    assert begun(store) == ORDER
    return store


@pytest.fixture
def whole(undisturbed: Store) -> float:
    """Seconds that the undisturbed campaign took, by which limits are measured: machines are busy or not."""
    times = [path.stat().st_mtime for path in undisturbed.root.glob("*/r*.json")]
    return max(4.0, max(times) - min(times))


def test_interrupted_five_times_it_ends_with_the_same_table(
    campaigner: Campaigner, undisturbed: Store, whole: float, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    where = f"store={tmp_path}"

    def saved_or_ended() -> bool:
        """Every run that was begun has something to go on from, and nobody has claimed it."""
        folders = [store.folder(run) for run in store.runs()]
        return all(
            (store.status(folder.name) or any((folder / name).exists() for name in CHECKPOINTS))
            and holder(folder) is None
            for folder in folders
        )

    def limited(seconds: float) -> None:
        old, before = begun(store), time.monotonic()
        # A run takes a sixth of the whole.
        campaigner.begin(where, f"time_limit={seconds}", start=0.08 * whole, saving=0.08 * whole)
        status, said = campaigner.end()
        assert status == 0, said
        assert time.monotonic() - before < seconds + 0.25 * whole
        assert "nothing was started" not in said
        assert saved_or_ended()
        # Where the next run doesn't fit any more, a shorter one that comes later may.
        new = begun(store)[len(old) :]
        assert new == [run for run in ORDER if run in new]

    def struck(number: int) -> int:
        """Strike a session once it has got on by two epochs."""
        old, before, session = begun(store), epochs(store), campaigner.begin(where)
        until(lambda: epochs(store) >= before + 2)
        os.kill(session, number)
        status = campaigner.end()[0]
        assert_next(old)
        return status

    def assert_next(old: list[str]) -> None:
        """What was begun since is what came next in the plan."""
        new = begun(store)[len(old) :]
        assert new == [run for run in ORDER if run not in old][: len(new)]

    # A run is begun when 1.5 times what it needs is left, about a third of the whole.
    limited(0.6 * whole)
    assert 0 < len(store.runs()) < 6
    assert struck(signal.SIGTERM) == os.EX_TEMPFAIL
    assert saved_or_ended()
    assert struck(signal.SIGUSR1) == os.EX_TEMPFAIL
    assert saved_or_ended()
    assert struck(signal.SIGKILL) == -signal.SIGKILL
    # Workers notice that nobody waits for them any more, when they are between two batches.
    until(lambda: all(holder(store.folder(run)) is None for run in store.runs()))
    limited(0.6 * whole)
    old = begun(store)
    campaigner.begin(where)
    status, said = campaigner.end()
    assert status == 0
    assert "6 of 6 runs ended" in said
    assert_next(old)
    assert set(begun(store)) == set(ORDER)
    assert table(store) == table(undisturbed)
    assert not list(tmp_path.glob("*/record.replaced.json"))


def test_stores_of_two_machines_are_merged_and_filled(
    campaigner: Campaigner, undisturbed: Store, tmp_path: Path
) -> None:
    stores = [Store(tmp_path / name) for name in ("here", "there")]
    for store, seed in zip(stores, ("0", "1"), strict=True):
        campaigner.begin(f"store={store.root}", f"seeds={seed}", "rows=BN-1,UCB-Norm-1")
        assert campaigner.end()[0] == 0
    merge(*stores)
    campaigner.begin(f"store={stores[0].root}", "dry=true")
    assert "4 of 6 runs ended, 0 begun, 2 not begun" in campaigner.end()[1]
    campaigner.begin(f"store={stores[0].root}")
    assert campaigner.end()[0] == 0
    assert table(stores[0]) == table(undisturbed)


def test_a_dry_run_prints_the_plan_and_writes_nothing(campaigner: Campaigner, tmp_path: Path) -> None:
    campaigner.begin("--store", str(tmp_path / "none"), "--dry-run", "--time-limit", "540")
    status, said = campaigner.end()
    lines = [line.split("  ")[1] for line in said.splitlines()[:6]]
    assert status == 0
    assert [line.strip() for line in lines] == [f"{row} seed {seed}" for seed in (0, 1) for row in ROWS]
    assert not (tmp_path / "none").exists()


def test_nothing_is_started_that_could_not_be_saved(campaigner: Campaigner, tmp_path: Path) -> None:
    campaigner.begin(f"store={tmp_path}", "time_limit=0.9")
    status, said = campaigner.end()
    assert status == 0
    assert "nothing was started" in said
    assert not Store(tmp_path).runs()


def test_a_run_is_allowed_as_long_as_it_reaches_a_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.monotonic", lambda: 100.0)
    limit = Limit(stop=150.0, end=160.0, needs={"short": 50.0, "long": 51.0})
    assert limit.allows("short")
    assert not limit.allows("long")
    assert not limit.allows("short", delay=1.0)


def test_where_the_next_run_does_not_fit_a_shorter_one_is_trained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    items = plan_campaign(["table5"], ["budget=smoke"], seeds=[0], labels=ROWS)
    trained: list[str] = []
    monkeypatch.setattr("cbnorm.runs.execute.execute", lambda config, _store: trained.append(run_id(config)))
    monkeypatch.setattr(Store, "status", lambda _store, run: "done" if run in trained else None)
    now = time.monotonic()
    needs = dict(zip((item.id for item in items), (1.0, 500.0, 1.0), strict=True))
    with pytest.raises(SystemExit) as ended:
        work(items, Store(tmp_path), os.getppid(), Limit(now + 100.0, now + 110.0, needs))
    assert ended.value.code == 0
    assert trained == [items[0].id, items[2].id]


def test_runs_stop_early_enough_to_be_saved_and_unfinished_ones_come_first() -> None:
    items = plan_campaign(["table5"], ["budget=smoke"], seeds=[0, 1], labels=["BN-1", "UCB-Norm-1"])
    cost = Cost(start=10.0, epoch=2.0, pause=7.0, speed=100.0, source="measured here")
    states = [(None, False), ("done", False), ("failed", False), (None, True)]
    parts = [
        Part(item, status, begun, elsewhere=False, epochs=3 if begun else 0, cost=cost)
        for item, (status, begun) in zip(items, states, strict=True)
    ]
    assert [(p.item.row, p.item.config.seed) for p in in_order(parts)] == [
        ("UCB-Norm-1", 1),
        ("BN-1", 0),
        ("BN-1", 1),
    ]
    limit = limit_of(in_order(parts), 100.0)
    assert limit.end == 100.0
    assert limit.stop <= 100.0 - 7.0
    # One and a half times the start and the one epoch that is left, or the first checkpoint of a new run.
    assert limit.needs[items[3].id] == 1.5 * (10 + 2)
    assert limit.needs[items[0].id] == 1.5 * (10 + 8)


@pytest.mark.parametrize(("pause", "most"), [(7.0, 7.0), (500.0, 20.0)])
def test_runs_stop_before_the_end_by_what_saving_takes(pause: float, most: float) -> None:
    (item,) = plan_campaign(["table5"], ["budget=smoke"], seeds=[0], labels=["BN-1"])
    cost = Cost(start=10.0, epoch=2.0, pause=pause, speed=100.0, source="measured here")
    limit = limit_of([Part(item, None, begun=False, elsewhere=False, epochs=0, cost=cost)], 100.0)
    assert limit.stop == 100.0 - SAVING - most


def test_several_tables_are_one_plan_over_all_rows_before_the_next_seed() -> None:
    items = plan_campaign(["table5", "ucb_forms"], seeds=[0, 1])
    assert [item.config.seed for item in items] == sorted(item.config.seed for item in items)
    assert len({item.id for item in items}) == len(items)
    assert {item.row.split()[0] for item in items} == {"table5", "ucb_forms"}


def test_estimates_come_from_what_was_measured_here(
    undisturbed: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cost(*words: str) -> Cost:
        return Speeds([undisturbed]).cost(compose_run([*TINY, "trainer.accelerator=cpu", *words]))

    def measured(norm: str) -> list[float]:
        found = [r for r in undisturbed.survey()[0] if r["config"]["norm"]["name"] == norm]
        return [r["seconds"]["images_per_second"] for r in found]

    bn = cost("norm=bn", "optimizer.lr=0.3")
    assert bn.source == "measured here"
    assert min(measured("bn")) * 0.99 <= bn.speed <= max(measured("bn")) * 1.01
    # A norm that nobody ran costs what the slowest one does.
    other = cost("norm=mn")
    assert other.source == "slowest norm here"
    assert other.speed <= min(measured("ucb") + measured("bn")) * 1.01
    # One slow start, on a machine that had other work, is none that is to be expected.
    speeds = Speeds([undisturbed])
    speeds.samples = [replace(s, start=1.0) for s in speeds.samples] * 2
    speeds.samples[0] = replace(speeds.samples[0], start=500.0)
    config = compose_run([*TINY, "trainer.accelerator=cpu", "norm=bn", "optimizer.lr=0.3"])
    assert speeds.cost(config).start == 1.0
    # Twice the images, twice the work.
    assert cost("norm=bn", "dataset.train_images=60").epoch > 1.2 * bn.epoch
    monkeypatch.setattr(machine, "cpu_name", lambda: "another")
    monkeypatch.setattr(speed, "cpu_name", lambda: "another")
    assert cost("norm=bn").source == "another machine"
    assert cost("norm=bn", "trainer.batch_size=7").source == "guessed"


@pytest.mark.parametrize(
    ("words", "message"),
    {
        ("budget=smoke",): "which table",
        ("tabel5",): "did you mean 'table5'",
        ("table5", "time_limit=soon"): "time_limit=soon must be a number of seconds",
        ("table5", "--time-limit"): "--time-limit needs a value",
        ("table5", "--verbose"): "'--verbose' means nothing to campaign",
        ("table5", "jobs=0"): "jobs=0",
        ("table5", "dry=perhaps"): "dry=perhaps",
    }.items(),
)
def test_mistakes_are_one_line(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(CbnormError, match=message):
        read(words)


def test_both_spellings_mean_the_same() -> None:
    words = ["table5", "seeds=0..1", "time_limit=540", "store=x", "dry=true", "budget=full"]
    spelled = [
        "experiment=table5",
        "--seeds=0..1",
        "--time-limit",
        "540",
        "--store",
        "x",
        "--dry-run",
        "budget=full",
    ]
    assert read(words) == read(spelled)
