"""The classification task and its readings."""

import pytest
import torch
from sklearn.metrics import precision_recall_fscore_support
from torch import nn
from torch.nn import functional as F

from cbnorm.config.compose import compose_run
from cbnorm.tasks.classification import Classification, ClassificationReader
from cbnorm.tasks.predictions import Predictions, predict


class Linear(nn.Module):
    """A classifier of three features that ignores clusters."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.dropout = nn.Dropout(0.9)

    def forward(self, images: torch.Tensor, clusters: torch.Tensor | None = None) -> torch.Tensor:
        return self.layer(self.dropout(images))


@pytest.fixture
def task() -> Classification:
    torch.manual_seed(0)
    return Classification(Linear(), compose_run([]).optimizer)


def batches(n: int, size: int) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(n, 3, generator=generator)
    labels = torch.randint(4, (n,), generator=generator)
    return list(zip(images.split(size), labels.split(size), torch.full((n,), -1).split(size), strict=True))


def test_training_loss_is_the_mean_over_images_whatever_the_batches(task: Classification) -> None:
    task.eval()
    losses = [task.training_step(batch, i).item() for i, batch in enumerate(batches(10, 4))]
    sums = sum(loss * count for loss, count in zip(losses, (4, 4, 2), strict=True))
    found = [task(images).argmax(1) == labels for images, labels, _ in batches(10, 4)]
    row = task.finish_epoch()
    assert row["train_loss"] == pytest.approx(sums / 10, rel=1e-6)
    assert row["train_accuracy"] == pytest.approx(100 * torch.cat(found).double().mean().item())
    assert task.totals.tolist() == [0, 0, 0]


def test_predictions_do_not_depend_on_the_batches_and_use_evaluation_mode(task: Classification) -> None:
    task.train()
    whole, parts = predict(task, batches(23, 23)), predict(task, batches(23, 5))
    assert torch.equal(whole.predicted, parts.predicted)
    torch.testing.assert_close(whole.losses, parts.losses)
    assert task.training


def test_what_is_no_number_ranks_last(task: Classification) -> None:
    """The last weights of a run that diverged are read too."""
    (images, labels, clusters), *_ = batches(9, 9)
    assert predict(task, [(images * torch.nan, labels, clusters)]).ranks.min() == 4


def test_losses_are_cross_entropies(task: Classification) -> None:
    (images, labels, _), *_ = batches(9, 9)
    expected = F.cross_entropy(task.model.eval()(images), labels).item()
    assert predict(task, batches(9, 9)).loss == pytest.approx(expected, rel=1e-6)


def test_bf16_changes_the_forward_pass_but_not_the_type_of_logits() -> None:
    torch.manual_seed(0)
    full = Classification(Linear().eval(), compose_run([]).optimizer)
    half = Classification(full.model, full.optimizer, bf16=True)
    images = torch.randn(5, 3)
    assert half(images).dtype == torch.float32
    assert not torch.equal(half(images), full(images))
    torch.testing.assert_close(half(images), full(images), rtol=0.05, atol=0.05)


def test_macro_metrics_agree_with_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    labels, predicted = torch.randint(6, (2, 200), generator=generator)
    predicted[predicted == 5] = 0  # one class is never predicted
    reading = Predictions(labels, predicted, *[torch.zeros(200)] * 5).macro(6)
    expected = precision_recall_fscore_support(labels, predicted, average="macro", zero_division=0)[:3]
    assert list(reading.values()) == pytest.approx([100 * value for value in expected])


def test_top5_and_the_authors_precision_and_recall_agree_with_their_definitions(
    task: Classification,
) -> None:
    from torchmetrics.functional.classification import multiclass_accuracy

    task.model.layer = nn.Linear(3, 7)
    reading = predict(task, batches(50, 11))
    images, labels = (torch.cat(part) for part in list(zip(*batches(50, 11), strict=True))[:2])
    logits = task.model.eval()(images)
    expected = multiclass_accuracy(logits, labels, 7, top_k=5, average="micro")
    assert reading.top5 == pytest.approx(100 * expected.item())
    chosen, true = logits > 0.5, F.one_hot(labels, 7).bool()
    hits = (chosen & true).sum().item()
    assert 0 < hits < 50
    assert reading.released() == pytest.approx(
        {"threshold_precision": 100 * hits / chosen.sum().item(), "threshold_recall": 100 * hits / 50}
    )


def test_confident_precision_and_recall_are_keras_on_probabilities(task: Classification) -> None:
    from torchmetrics.functional.classification import multilabel_precision, multilabel_recall

    task.model.layer = nn.Linear(3, 7)
    with torch.no_grad():
        task.model.layer.weight.mul_(20)
    images, labels = (torch.cat(part) for part in list(zip(*batches(50, 11), strict=True))[:2])
    probabilities, true = task.model.eval()(images).softmax(1), F.one_hot(labels, 7)
    options = {"num_labels": 7, "threshold": 0.5, "average": "micro"}
    found = predict(task, batches(50, 11)).confident()
    assert 0 < found["confident_recall"] < found["confident_precision"] < 100
    assert found == pytest.approx(
        {
            "confident_precision": 100 * multilabel_precision(probabilities, true, **options).item(),
            "confident_recall": 100 * multilabel_recall(probabilities, true, **options).item(),
        }
    )
    plain = ClassificationReader(7, [], batches(50, 11)).read(task).metrics
    longer = ClassificationReader(7, [], batches(50, 11), confident=True).read(task).metrics
    assert longer == plain | found
