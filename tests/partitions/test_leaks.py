"""What training labels say must not reach the test set by another way than the network's weights.

With training labels shuffled, whatever is learned is of no use: test accuracy is that of guessing. A single
run may differ from 10 % by as much as a random naming of ten classes does, which has a standard deviation of
up to 9.5 %; the bound lies three of them above. The network is the smallest that has a norm layer to replace.
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cbnorm.config.compose import compose_run, groups
from cbnorm.data import digits, images
from cbnorm.data.splits import Split
from cbnorm.models import MODELS
from cbnorm.norms import apply_norm
from cbnorm.runs.execute import execute
from cbnorm.runs.store import Store

CHANCE, LEARNED = 40.0, 60.0
COMMON = [
    "budget=smoke",
    "dataset.image_size=32",
    "dataset.train_images=300",
    "dataset.val_images=100",
    "dataset.test_images=null",
    "dataset.augmentation.rotation=0",
    "dataset.augmentation.zoom=0",
    "trainer.max_epochs=10",
    "trainer.moments=[50,100]",
    "trainer.batch_size=30",
    "trainer.precision=fp32",
    "optimizer.lr=0.01",
]


class Tiny(nn.Module):
    """Pooled to 8x8, one convolution, one norm layer, one linear layer."""

    def __init__(self, num_classes: int, norm, placement, **_options: object) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = norm(16)
        self.linear = nn.Linear(16 * 16, num_classes)

    def forward(self, x: Tensor, clusters: Tensor | None = None) -> Tensor:
        x = apply_norm(self.norm, self.conv(nn.functional.adaptive_avg_pool2d(x, 8)), clusters)
        return self.linear(nn.functional.max_pool2d(x.relu(), 2).flatten(1))


@pytest.fixture
def tiny(own_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "shallow_cnn", Tiny)


@pytest.fixture
def shuffled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training and validation labels, and the attribute that follows from them, belong to other images."""

    def read(folder: Path | None = None) -> tuple[Split, Split]:
        train, test = digits.read(folder)
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
        return with_parity(Split(train.images, train.labels[order])), with_parity(test)

    monkeypatch.setitem(images.READERS, "digits", read)


def with_parity(split: Split) -> Split:
    return Split(split.images, split.labels, split.indices, {"parity": split.labels % 2})


def accuracy(words: list[str], store: Path) -> float:
    record = execute(compose_run([*COMMON, *words]), Store(store))
    assert record is not None
    return record["metrics"]["moments"][-1]["last"]["accuracy"]


@pytest.mark.usefixtures("tiny", "shuffled")
@pytest.mark.parametrize("norm", ["bn", "scb", "ucb"])
@pytest.mark.parametrize("protocol", groups()["protocol"])
def test_every_protocol_guesses_when_training_labels_are_shuffled(
    protocol: str, norm: str, tmp_path: Path
) -> None:
    assert accuracy([f"protocol={protocol}", f"norm={norm}"], tmp_path) < CHANCE


@pytest.mark.usefixtures("tiny", "shuffled")
@pytest.mark.parametrize("words", [["partition=kmeans"], ["partition=random"], ["partition.test=refit"]])
def test_so_does_every_partition_that_is_fitted(words: list[str], tmp_path: Path) -> None:
    assert accuracy(["norm=scb", *words], tmp_path) < CHANCE


@pytest.mark.usefixtures("tiny", "shuffled")
def test_an_oracle_tells_the_classes_of_test_images_and_is_marked(tmp_path: Path, capsys) -> None:
    config = compose_run([*COMMON, "norm=scb", "partition=label"])
    record = execute(config, Store(tmp_path))
    assert record is not None
    assert record["metrics"]["moments"][-1]["last"]["accuracy"] > LEARNED
    assert record["partition"]["oracle"] is True
    assert "partition=label is an oracle" in capsys.readouterr().err


@pytest.mark.usefixtures("tiny", "shuffled")
def test_groups_of_classes_are_marked_as_an_oracle_too(tmp_path: Path, capsys) -> None:
    config = compose_run(
        [*COMMON, "trainer.max_epochs=2", "norm=scb", "partition=attribute", "partition.attribute=parity"]
    )
    record = execute(config, Store(tmp_path))
    assert record is not None
    assert record["partition"] | {"method": "parity", "oracle": True, "clusters": 2} == record["partition"]
    assert "is an oracle" in capsys.readouterr().err


@pytest.mark.usefixtures("tiny")
def test_the_same_network_learns_from_true_labels(tmp_path: Path) -> None:
    assert accuracy(["norm=scb"], tmp_path) > LEARNED
