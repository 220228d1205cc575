"""The AdaMatch task: its loss written anew, what its second pass may touch, its schedules, its readings."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cbnorm.config.compose import compose_run
from cbnorm.data.views import Views
from cbnorm.norms import apply_norm, create_norm
from cbnorm.tasks.adamatch import FOLLOWED, SUMS, AdaMatch
from cbnorm.tasks.domains import DomainReader, adapted, largest

N, M, CLASSES = 6, 18, 4


class Net(nn.Module):
    """A norm on the image, a convolution, batch normalization, the mean over positions, a linear layer."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.first = norm
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.linear = nn.Linear(8, CLASSES)

    def forward(self, images: Tensor, clusters: Tensor | None = None) -> Tensor:
        x = self.conv(apply_norm(self.first, images / 255, clusters))
        return self.linear(F.relu(self.norm(x)).mean(dim=(2, 3)))


def views(seed: int = 0) -> Views:
    made = torch.Generator().manual_seed(seed)
    source, target = (torch.randint(256, (2, n, 3, 6, 6), generator=made).float() for n in (N, M))
    labels = torch.randint(CLASSES, (N,), generator=made)
    return Views(source[0], source[1], labels, target[0], target[1])


def make(norm: str = "scb", epochs: int = 2, steps: int = 6, *words: str, **options: int) -> AdaMatch:
    config = compose_run(["experiment=table6_usps", f"norm={norm if norm != 'identity' else 'none'}", *words])
    torch.manual_seed(0)
    clustered = norm == "scb"
    layer = create_norm(norm, 3, **({"num_clusters": 2} if clustered else {})) if norm != "identity" else None
    task = AdaMatch(
        Net(nn.Identity() if layer is None else layer),
        config.optimizer,
        config.task,
        num_classes=CLASSES,
        epochs=epochs,
        steps=steps,
        clustered=clustered,
    )
    return task.train()


def ids(*counts: int) -> Tensor:
    return torch.cat([torch.full((n,), k) for k, n in enumerate(counts)])


def reference(model: nn.Module, batch: Views, share: Tensor, *, form: str, weight: float) -> Tensor:
    """The loss of a run's first step in float64, with a model of its own for the second pass."""
    keras = form == "keras"
    model = copy.deepcopy(model).double()
    source = torch.cat([batch.source_weak, batch.source_strong]).double()
    target = torch.cat([batch.target_weak, batch.target_strong]).double()
    other = copy.deepcopy(model)
    together = model(torch.cat([source, target]), ids(2 * N, 2 * M))
    second = model.eval() if keras else other
    alone = second(source, ids(2 * N))
    logits = share * together[: 2 * N] + (1 - share) * alone
    weak, strong = logits[:N], logits[N:]
    p, q = weak.softmax(1), together[2 * N : 2 * N + M].softmax(1)
    p_mean, q_mean = p.mean(0), q.mean(0)
    if form == "running":
        p_mean = 0.999 / CLASSES + 0.001 * p_mean + 1e-6
        q_mean = (127 / CLASSES + 2 * q_mean) / 129 + 1e-6
    labels = q / q.norm(dim=1, keepdim=True) if keras else q * (p_mean / q_mean)
    labels = labels if keras else labels / labels.sum(1, keepdim=True)
    sure = labels.max(1).values >= 0.9 * p.max(1).values.mean()
    first = F.cross_entropy(weak, batch.source_labels) + F.cross_entropy(strong, batch.source_labels)
    each = -(labels * together[2 * N + M :].log_softmax(1)).sum(1) * sure
    return first + weight * each.sum() / M


@pytest.mark.parametrize("form", ["running", "per_class", "keras"])
@pytest.mark.parametrize("norm", ["identity", "scb", "bn"])
def test_a_step_is_the_loss_written_anew(norm: str, form: str) -> None:
    words = [f"task.alignment={form}", *(["task.second_forward=inference"] if form == "keras" else [])]
    task, batch = make(norm, 2, 6, *words), views()
    # So that running statistics are not those of the first batch.
    task.model(views(5).target_weak, ids(0, M) if norm == "scb" else None)
    task.step = 2
    torch.manual_seed(3)
    share = torch.rand(2 * N, CLASSES)
    expected = reference(task.model, batch, share, form=form, weight=0.75)
    torch.manual_seed(3)
    loss = task.training_step(batch, 0)
    # mu after 2 of 6 steps: 0.5 - 0.5 cos(2 pi / 3).
    assert loss.item() == pytest.approx(expected.item(), rel=2e-5)


@pytest.mark.parametrize("form", ["source", "inference"])
def test_the_second_pass_touches_no_running_statistics(form: str) -> None:
    task, batch = make("scb", 2, 6, f"task.second_forward={form}"), views()
    task.training_step(batch, 0)
    alone = make("scb").model
    images = torch.cat([batch.source_weak, batch.source_strong, batch.target_weak, batch.target_strong])
    alone(images, ids(2 * N, 2 * M))
    for name, value in alone.named_buffers():
        assert torch.equal(value, dict(task.model.named_buffers())[name]), name
    assert task.model.training


def test_gradients_come_from_both_passes() -> None:
    task, batch = make("identity"), views()
    torch.manual_seed(1)
    source, _ = task.losses(batch)
    both = torch.autograd.grad(source, task.model.conv.weight)[0]
    task = make("identity")
    alone = task._alone(torch.cat([batch.source_weak, batch.source_strong])).detach()
    task._alone = lambda images: alone  # type: ignore[method-assign]
    torch.manual_seed(1)
    source, _ = task.losses(batch)
    assert (both - torch.autograd.grad(source, task.model.conv.weight)[0]).abs().max() > 1e-4


def test_the_target_weighs_nothing_at_first_and_wholly_from_half_of_the_steps_on() -> None:
    batch = views()
    for step, weight in ((0, 0.0), (3, 1.0), (5, 1.0)):
        other, task = make(), make()
        torch.manual_seed(1)
        source, target = other.losses(batch)
        task.step = step
        torch.manual_seed(1)
        assert task.training_step(batch, 0).item() == pytest.approx((source + weight * target).item())


class Rates(AdaMatch):
    """A task that is told its optimizers, as a trainer would."""

    def all_optimizers(self) -> list[torch.optim.Optimizer]:
        return [self.used]


def rates(steps: int, *words: str) -> list[float]:
    task = make("scb", 1, steps, *words)
    task.__class__ = Rates
    task.used = task.configure_optimizers()
    found = []
    for step in range(steps):
        task.begin_step(step)
        found.append(task.used.param_groups[0]["lr"])
    return found


def test_the_rate_falls_to_a_quarter_over_the_steps_that_are_run() -> None:
    found = rates(100)
    assert found[0] == 0.03
    assert found[50] == pytest.approx(0.03 * 0.625)
    assert found[-1] == pytest.approx(0.03 * 0.25, rel=1e-3)
    assert found == sorted(found, reverse=True)


def test_released_schedules_are_longer_or_shorter_than_the_run() -> None:
    # 93,700 steps of schedule, of which 38,200 are run: facts about the authors' notebooks.
    long = rates(382, "protocol=released")
    assert long[-1] == pytest.approx(0.0220, abs=1e-4)
    short = rates(382, "protocol=released", "norm=ucb")
    assert short[93] == pytest.approx(0.0075, rel=2e-3)
    assert len(set(short[94:])) == 1


@pytest.mark.parametrize(
    ("epochs", "steps", "followed"), [(2, 6, [1, 4]), (2, 4, [0, 2]), (2, 2, [0, 1]), (1, 5, [3])]
)
def test_gradients_are_followed_once_an_epoch_at_a_full_batch(
    epochs: int, steps: int, followed: list[int]
) -> None:
    task, found = make("scb", epochs, steps), []
    for step in range(steps):
        task.step = step
        if task.follows:
            found.append(step)
            assert task.epoch == len(found) - 1
    assert found == followed


def test_the_gradients_of_the_last_full_batch_of_an_epoch_are_followed() -> None:
    task, batch = make(), views()
    parameters = list(task.model.parameters())
    task.training_step(batch, 0)
    assert not task.variances.any()
    before = copy.deepcopy(task.model)
    task.step = 1
    torch.manual_seed(4)
    task.training_step(batch, 1).backward()
    after = {name: value.clone() for name, value in task.model.named_buffers()}
    assert not task.variances[1].any()
    found = task.variances[0]
    for row, images, clusters in (
        (0, batch.source_weak, ids(N)),
        (1, batch.target_weak, ids(0, M)),
    ):
        again = copy.deepcopy(before)
        # Running statistics have no part in a forward pass in training mode.
        again.train()(images, clusters).sum().backward()
        expected = [
            p.grad.var(correction=0).item() if p.grad is not None else 0.0 for p in again.parameters()
        ]
        assert found[row].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-9)
    untouched = copy.deepcopy(before)
    untouched.train()(
        torch.cat([batch.source_weak, batch.source_strong, batch.target_weak, batch.target_strong]),
        ids(2 * N, 2 * M),
    )
    assert all(torch.equal(value, after[name]) for name, value in untouched.named_buffers())
    assert found[2:].gt(0).any(dim=1).all()
    assert len(parameters) == found.shape[1]


def test_what_is_followed_has_no_part_in_the_step() -> None:
    gradients = []
    for step in (1, 2):  # the second of three steps of an epoch is followed, the third is not
        task = make("bn", 2, 6, "task.horizon=1e6")
        task.step = step
        torch.manual_seed(2)
        task.training_step(views(), 0).backward()
        gradients.append([p.grad for p in task.model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


def test_an_epoch_ends_with_means_over_images() -> None:
    other, task = make("scb", 2, 2), make("scb", 2, 2)
    torch.manual_seed(0)
    source, target = (loss.item() for loss in other.losses(views()))
    task.step = 1
    assert task.means.tolist() == [[0.25] * CLASSES] * 2
    torch.manual_seed(0)
    task.training_step(views(), 0)
    row = task.finish_epoch()
    assert row["train_loss"] == pytest.approx(source + target, rel=1e-5)
    assert row["source_loss"] == pytest.approx(source, rel=1e-5)
    assert row["target_loss"] == pytest.approx(target, rel=1e-5)
    # Of all images: three of N and two of M were counted.
    task.totals[3:7] = torch.tensor([3, 2, N, M])
    assert task.finish_epoch().items() >= {"train_accuracy": 100 * 3 / N, "sure": 100 * 2 / M}.items()
    assert 0 <= row["train_accuracy"] <= 100
    assert row["sure"] * M / 100 == pytest.approx(round(row["sure"] * M / 100), abs=1e-4)
    assert row["gradients.logits.source.max"] == pytest.approx(task.variances[1, 0].max().item())
    assert {key for key in row if key.startswith("gradients")} == {
        f"gradients.{name}.{what}" for name in FOLLOWED for what in ("max", "mean", "std")
    }
    # The sums start anew; what was followed stays, and so do the running means.
    assert not task.totals[: len(SUMS)].any()
    assert task.variances[1].any()
    assert task.means.sum(1).tolist() == pytest.approx([1, 1], abs=1e-6)
    assert (task.means != 0.25).all()


def test_a_loss_that_is_not_finite_leaves_unknown_numbers() -> None:
    task = make("scb", 2, 2)
    with torch.no_grad():
        task.model.linear.weight.fill_(float("nan"))
    task.training_step(views(), 0)
    row = task.finish_epoch()
    assert row.pop("train_loss") != row["train_accuracy"]
    assert {key for key, value in row.items() if value is None} >= {
        "source_loss",
        "gradients.loss.source.max",
    }


def batches(seed: int, cluster: int | None) -> list[tuple[Tensor, Tensor, Tensor]]:
    made = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (20, 3, 6, 6), generator=made).float() / (1 + seed)
    labels = torch.randint(CLASSES, (20,), generator=made)
    known = torch.full((20,), -1 if cluster is None else cluster)
    return list(zip(images.split(8), labels.split(8), known.split(8), strict=True))


def test_readings_are_told_apart_by_name_and_none_selects() -> None:
    task = make("scb")
    with torch.no_grad():
        task.model.first.mean[1] += 2  # so that ids matter
    test = {"": batches(1, 0), "source": batches(0, 0), "own": batches(1, 1)}
    reader = DomainReader(CLASSES, test, test, {})
    row = reader.validate(task)
    assert reader.score(row) is None
    found = reader.read(task)
    for lead in ("", "source.", "own."):
        assert row[f"{lead}val_accuracy"] == found.metrics[f"{lead}accuracy"]
        assert row[f"{lead}val_loss"] == found.metrics[f"{lead}loss"]
    assert len({found.metrics[f"{name}loss"] for name in ("", "source.", "own.")}) == 3
    assert torch.equal(found.arrays["labels"], found.arrays["own.labels"])
    assert found.metrics["weighted_recall"] == pytest.approx(found.metrics["accuracy"])
    assert found.arrays["gradients"].shape == (2, 4, len(list(task.model.parameters())))
    assert found.arrays["gradients"].isneginf().all()
    assert found.metrics["gradient_variance"] is None
    task.variances[0] = torch.tensor([1.0, 10, 100, 1000])[:, None]
    task.variances[0, 1, 2] = 1e5
    assert reader.read(task).metrics["gradient_variance"] == pytest.approx(5)
    assert reader.read(task).metrics["source.gradient_variance"] == pytest.approx(0)
    task.step = 3  # the second epoch, in which the target's largest is 1e7
    task.variances[1] = 1e7
    metrics = reader.read(task).metrics
    assert metrics["gradient_variance"] == metrics["own.gradient_variance"] == pytest.approx(6)
    assert metrics["source.gradient_variance"] == pytest.approx(3.5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_epoch_without_finite_gradients_leaves_the_others(value: float) -> None:
    task = make("scb", 3, 9)
    task.step = 8
    task.variances[:] = 1e4
    task.variances[1, 0, 0] = value
    task.variances[2, :, 3] = 1e8
    assert largest(task) == pytest.approx([6, 16 / 3, 16 / 3, 16 / 3])


def test_statistics_are_estimated_anew_on_a_copy() -> None:
    model = make("bn").model
    model(views().target_weak)  # whose statistics must be forgotten
    before = copy.deepcopy(model.state_dict())
    given = batches(1, None)[:2]
    other = adapted(model, given)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    first = [images / 255 for images, _, _ in given]
    assert other.first.running_mean.allclose(
        torch.stack([x.mean((0, 2, 3)) for x in first]).mean(0), atol=1e-5
    )
    assert other.first.running_var.allclose(torch.stack([x.var((0, 2, 3)) for x in first]).mean(0), atol=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert (model.training, other.training, other.norm.momentum) == (True, True, 0.1)
    reader = DomainReader(CLASSES, {}, {"": given, "adabn": given}, {"adabn": given})
    task = make("bn")
    metrics = reader.read(task).metrics
    assert metrics["loss"] != metrics["adabn.loss"]
    assert {"gradient_variance", "adabn.gradient_variance"} <= metrics.keys()
    assert not task.model.norm.running_mean.any()


def test_a_last_batch_with_fewer_images_does_not_count_as_much_as_others() -> None:
    model = make("bn").model
    given = batches(1, None)[:2]
    images, labels, clusters = given[-1]
    few = (10 * images[:1], labels[:1], clusters[:1])
    full, more, alone = (adapted(model, some).first.running_mean for some in (given, [*given, few], [few]))
    assert torch.equal(full, more)
    assert not torch.allclose(full, alone)


def test_learning_works_on_two_easy_domains() -> None:
    """Brightness is the class, and the target is darker: the source is learned and the target follows."""
    task = make("scb", 1, 60, "optimizer.lr=0.02")
    task.__class__ = Rates
    task.used = task.configure_optimizers()
    made = torch.Generator().manual_seed(0)

    def domain(n: int, shift: float) -> tuple[Tensor, Tensor]:
        labels = torch.randint(CLASSES, (n,), generator=made)
        levels = (40 + 50 * labels - shift).float()[:, None, None, None]
        return levels + 4 * torch.randn(n, 3, 6, 6, generator=made), labels

    losses = []
    for step in range(60):
        (weak, labels), (target, _) = domain(16, 0), domain(48, 8)
        task.begin_step(step)
        loss = task.training_step(Views(weak, weak + 1, labels, target, target + 1), step)
        task.used.zero_grad()
        loss.backward()
        task.used.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    images, labels = domain(200, 8)
    with torch.no_grad():
        accuracy = (task.eval()(images, ids(0, 200)).argmax(1) == labels).float().mean()
    assert accuracy > 0.7
