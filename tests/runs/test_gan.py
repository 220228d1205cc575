"""DCGAN from its config to its record: exact resume of both networks, grids, floors, outcomes."""

import hashlib
import io
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from cbnorm.config.compose import compose_run
from cbnorm.config.schema import RunConfig
from cbnorm.data import catalog, weights
from cbnorm.data.failure import SourceError
from cbnorm.errors import CbnormError
from cbnorm.models import dcgan
from cbnorm.runs import build_gan, resume
from cbnorm.runs.build import build, load_data
from cbnorm.runs.execute import execute
from cbnorm.runs.identity import run_id
from cbnorm.runs.interruption import RunInterruptedError
from cbnorm.runs.plan import choose_rows
from cbnorm.runs.records import problem
from cbnorm.runs.store import Store
from cbnorm.tasks.gan import Gan

WORDS = [
    "experiment=dcgan",
    "budget=smoke",
    "dataset.train_images=50",
    "dataset.test_images=20",
    "task.samples=20",
    "trainer.batch_size=16",
    "trainer.precision=fp32",
]
ROWS = ["bn", "mn", "ucb"]


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of an eighth of the width: what is tested is not what they learn."""
    monkeypatch.setattr(dcgan, "WIDTH", 64)


def config(*words: str) -> RunConfig:
    return compose_run([*WORDS, *words])


def outcome(store: Store, run: str) -> dict[str, Any]:
    """Everything a run left, without timing and place."""
    record = store.record(run)
    for key in ("seconds", "versions", "hardware"):
        record.pop(key)
    history = [{k: v for k, v in row.items() if k != "seconds"} for row in store.history(run)]
    files = sorted(store.folder(run).glob("*.png"))
    grids = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    return {"record": record, "history": history, "grids": grids}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(tmp_path_factory.mktemp("undisturbed"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dcgan, "WIDTH", 64)
        for norm in ROWS:
            execute(config(f"norm={norm}"), store)
    return store


@pytest.mark.parametrize(("norm", "stop_at"), [("bn", 2), ("mn", 1), ("mn", 4), ("ucb", 3), ("ucb", 5)])
def test_a_run_stopped_at_any_batch_goes_on_exactly(
    norm: str, stop_at: int, undisturbed: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the six chances to stop, 3 comes after an epoch, the others inside one; both optimizers count."""
    seen = 0

    def requested() -> bool:
        nonlocal seen
        seen += 1
        return seen == stop_at

    run, store = config(f"norm={norm}"), Store(tmp_path)
    monkeypatch.setattr(resume, "requested", requested)
    with pytest.raises(RunInterruptedError):
        execute(run, store)
    execute(run, store)
    assert outcome(store, run_id(run)) == outcome(undisturbed, run_id(run))


def test_a_checkpoint_without_the_second_optimizer_is_refused(tmp_path: Path) -> None:
    parts = build(config("norm=bn"), torch.device("cpu"))
    saved = [optimizer.state_dict() for optimizer in parts.task.configure_optimizers()]
    keeper = resume.Checkpointer(tmp_path, "run", 0, None, 3, lambda: None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="does not fit this run"):
        keeper.restore({"optimizers": saved[:1]}, parts.task)


def test_grids_are_kept_at_every_moment_and_once(undisturbed: Store) -> None:
    folder = undisturbed.folder(run_id(config("norm=ucb")))
    grids = {file.name: file.read_bytes() for file in folder.glob("*.png")}
    names = {f"last_epoch{epoch}_{kind}samples.png" for epoch in (1, 2) for kind in ("", "batch_")}
    assert grids.keys() == names
    assert all(len(content) <= 200_000 for content in grids.values())
    assert Image.open(io.BytesIO(grids["last_epoch1_samples.png"])).size == (8 * 32, 3 * 32)
    assert grids["last_epoch1_samples.png"] != grids["last_epoch2_samples.png"]


def test_a_record_has_samples_by_both_statistics_and_the_floor(undisturbed: Store) -> None:
    run = run_id(config("norm=ucb"))
    record = undisturbed.record(run)
    assert problem(record, run) is None
    for entry in record["metrics"]["moments"]:
        assert entry["best"] == entry["last"]
        kinds = {key.rpartition(".")[0] for key in entry["last"]}
        assert kinds == {"", "batch", "floor"}
        assert entry["last"]["floor.samples"] == 20
        assert entry["last"]["floor.frechet_pixels"] < entry["last"]["frechet_pixels"]
        assert entry["last"]["frechet_pixels"] != entry["last"]["batch.frechet_pixels"]
        assert "frechet_mobilenet_v2" not in entry["last"]
    assert [row["epoch"] for row in undisturbed.history(run)] == [1, 2]
    assert {"generator_loss", "discriminator_loss"} <= undisturbed.history(run)[0].keys()
    assert record["status"] == "done"


def test_floors_are_the_same_for_every_row(undisturbed: Store) -> None:
    floors = [
        {k: v for k, v in record["metrics"]["moments"][-1]["last"].items() if k.startswith("floor.")}
        for record in (undisturbed.record(run_id(config(f"norm={norm}"))) for norm in ROWS)
    ]
    assert floors[0] == floors[1] == floors[2]


def test_a_loss_that_is_not_finite_ends_the_run_as_diverged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Gan.training_step

    def broken(self: Gan, batch: Any, index: int) -> None:
        step(self, batch, index)
        if self.step >= 4:
            self.totals[0] = math.inf

    monkeypatch.setattr(Gan, "training_step", broken)
    run = config("norm=bn")
    record = execute(run, Store(tmp_path))
    assert record is not None
    assert record["status"] == "diverged"
    assert record["epochs"] == 2
    assert Store(tmp_path).history(run_id(run))[-1]["train_loss"] is None
    assert [entry["percent"] for entry in record["metrics"]["moments"]] == [50, 100]


def test_images_are_learned_in_the_range_of_the_generator_in_whole_batches() -> None:
    parts = build(config("norm=bn"), torch.device("cpu"))
    batches = list(parts.train.epoch(0))
    assert [len(images) for images, _, _ in batches] == [16, 16, 16]
    low, high = torch.cat([images for images, _, _ in batches]).aminmax()
    assert (low.item(), high.item()) == pytest.approx((-1, 1), abs=1e-6)


def test_the_first_weights_depend_on_the_seed_alone() -> None:
    def linear(*words: str) -> torch.Tensor:
        pair = build_gan.adversaries(config(*words))
        return torch.cat([pair.generator.linear.weight.flatten(), pair.discriminator.first.weight.flatten()])

    assert torch.equal(linear("norm=bn"), linear("norm=ucb"))
    assert not torch.equal(linear("norm=bn"), linear("norm=bn", "seed=1"))


def test_the_seed_decides_both_networks_the_order_and_what_is_sampled() -> None:
    def made(seed: int) -> list[torch.Tensor]:
        parts = build(config("norm=bn", f"seed={seed}"), torch.device("cpu"))
        pair = parts.task.model
        weights = [pair.generator.linear.weight.detach(), pair.discriminator.first.weight.detach()]
        return [*weights, parts.train.drawn(0)[0], parts.reader.vectors]

    ours, again, other = made(0), made(0), made(1)
    assert all(torch.equal(a, b) for a, b in zip(ours, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(ours, other, strict=True))


NETWORKS = sorted({row.overrides for row in choose_rows("dcgan", ["all"])})


@pytest.mark.parametrize("words", NETWORKS, ids=" ".join)
@pytest.mark.parametrize("protocol", ["paper", "released"])
def test_every_row_is_built_and_sampled(words: tuple[str, ...], protocol: str) -> None:
    parts = build(config(f"protocol={protocol}", *words), torch.device("cpu"))
    reading = parts.reader.read(parts.task)
    for row in choose_rows("dcgan", ["all"]):
        if row.overrides == words:
            name = f"{row.reading}.frechet_pixels" if row.reading else "frechet_pixels"
            assert reading.metrics[name] is not None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["task.samples=21"], "task.samples=21 is too many"),
        (["task.references=10"], "task.references=10 is impossible: choose from task.samples=20 to the 50"),
        (["task.references=51"], "task.references=51 is impossible"),
        (["model.placement=[5]"], "model=dcgan: "),
    ],
)
def test_what_cannot_be_judged_or_built_is_one_line(words: list[str], told: str) -> None:
    with pytest.raises(CbnormError, match=told.replace("[", r"\[")):
        build(config("norm=bn", *words), torch.device("cpu"))


def test_weights_that_cannot_be_had_are_told_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere(*_: object) -> Path:
        raise SourceError("there is no network")

    monkeypatch.setenv("CBNORM_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(weights, "_obtain", nowhere)
    with pytest.raises(CbnormError, match=r"could not be fetched: .* Put mobilenet_v2-b0353104.pth into"):
        build(config("norm=bn", "task.features=mobilenet_v2"), torch.device("cpu"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["task=gan", "norm=scb"], "an image that is generated has not"),
        (["task=gan", "dataset.image_size=64"], "dcgan makes images of 32"),
        (["task=classification", "model=dcgan"], "task=gan goes with model=dcgan"),
        (["task=gan", "model=densenet"], "task=gan can't train model=densenet"),
    ],
)
def test_what_does_not_go_together_is_refused(words: list[str], told: str) -> None:
    with pytest.raises(CbnormError, match=told):
        compose_run(words)


def test_references_and_held_out_images_are_drawn_from_both_splits_once_for_all() -> None:
    run = config("norm=bn")
    data = load_data(run)
    real, again = build_gan.real_images(run, data), build_gan.real_images(config("norm=ucb", "seed=3"), data)
    assert torch.equal(real.references, again.references)
    assert torch.equal(real.held_out, again.held_out)
    assert len(real.references) == len(data.train) == 50
    assert sorted(real.held_out_labels.tolist()) == sorted(data.test.labels.tolist())
    assert real.num_classes == catalog.find("digits").num_classes
