"""AdaMatch's forms against the same written with NumPy in float64, and what they must reduce to."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from cbnorm.tasks import adaptation
from cbnorm.tasks.gradients import gradient_variances, summary

FORMS = ["per_class", "keras"]


def logits(n: int, seed: int, classes: int = 10) -> Tensor:
    return 3 * torch.randn(n, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def cross_entropy(values: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return -(targets * np.log(softmax(values))).sum(axis=1)


def aligned(source: np.ndarray, target: np.ndarray, form: str) -> np.ndarray:
    if form == "keras":
        moved = target * (np.mean(source) / np.mean(target))
        return moved / np.sqrt((moved**2).sum(axis=1, keepdims=True))
    moved = np.empty_like(target)
    for c in range(target.shape[1]):
        moved[:, c] = target[:, c] * source[:, c].mean() / target[:, c].mean()
    return moved / moved.sum(axis=1, keepdims=True)


def test_interpolation_is_taken_element_by_element() -> None:
    first, second = logits(7, 0), logits(7, 1)
    share = torch.rand(7, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    mixed = adaptation.interpolate(first, second, share)
    expected = share.numpy() * first.numpy() + (1 - share.numpy()) * second.numpy()
    np.testing.assert_allclose(mixed.numpy(), expected, rtol=1e-12)
    assert torch.equal(adaptation.interpolate(first, second, torch.ones_like(share)), first)
    assert torch.equal(adaptation.interpolate(first, second, torch.zeros_like(share)), second)


@pytest.mark.parametrize("form", FORMS)
def test_alignment_agrees_with_numpy(form: adaptation.Alignment) -> None:
    source, target = logits(8, 0).softmax(1), logits(24, 1).softmax(1)
    found = adaptation.align(source, target, form)
    np.testing.assert_allclose(found.numpy(), aligned(source.numpy(), target.numpy(), form), rtol=1e-12)


def test_running_alignment_takes_averages_over_batches() -> None:
    made = torch.Generator().manual_seed(7)
    means = torch.full((2, 10), 0.1, dtype=torch.float64)
    expected = means.numpy().copy()
    for seed in range(4):
        source, target = logits(8, seed), logits(24, 50 + seed) + torch.randn(10, generator=made).double()
        means = adaptation.running_means(means, source, target)
        for row, (values, decay) in enumerate(((source, 0.999), (target, 127 / 129))):
            expected[row] = decay * expected[row] + (1 - decay) * softmax(values.numpy()).mean(axis=0)
    np.testing.assert_allclose(means.numpy(), expected, rtol=1e-12)
    found = adaptation.pseudo_labels(source, target, threshold=0.9, form="running", means=means)
    moved = softmax(target.numpy()) * (expected[0] + 1e-6) / (expected[1] + 1e-6)
    np.testing.assert_allclose(found.labels.numpy(), moved / moved.sum(axis=1, keepdims=True), rtol=1e-12)
    with pytest.raises(ValueError, match="needs the running means"):
        adaptation.pseudo_labels(source, target, threshold=0.9, form="running")


def test_a_class_that_one_batch_lacks_is_not_taken_from_the_target() -> None:
    """Source and target are alike on the whole; the last source batch has no image of class 0."""
    means = torch.full((2, 4), 0.25)
    every, some = 9 * torch.eye(4), 9 * torch.eye(4)[[1, 2, 3, 1]]
    for _ in range(200):
        means = adaptation.running_means(means, every, every)
    means = adaptation.running_means(means, some, every)
    running, batch = (
        adaptation.pseudo_labels(some, every, threshold=0.9, form=form, means=means).labels[0]
        for form in ("running", "per_class")
    )
    assert running[0] > 0.99
    assert batch[0] < 0.6


def test_aligned_predictions_are_distributions_and_equal_means_change_nothing() -> None:
    source, target = logits(8, 0).softmax(1), logits(24, 1).softmax(1)
    assert adaptation.align(source, target).sum(1).allclose(torch.ones(24, dtype=torch.float64))
    same = target.mean(0, keepdim=True)
    torch.testing.assert_close(adaptation.align(same, target), target)


def test_the_keras_ratio_is_always_one() -> None:
    source, target = logits(8, 0).softmax(1), logits(24, 1).softmax(1)
    found = adaptation.align(source, target, "keras")
    torch.testing.assert_close(found, target / target.norm(dim=1, keepdim=True))
    # Rows of length 1 are surer than distributions: the threshold lets more of them pass.
    assert (found.amax(1) >= target.amax(1)).all()


def test_a_class_that_is_never_predicted_stays_at_zero() -> None:
    source = torch.tensor([[0.5, 0.5, 0.0]])
    target = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    found = adaptation.align(source, target)
    assert found[0].tolist() == [1.0, 0.0, 0.0]
    assert found.isfinite().all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("threshold", [0.5, 0.9, 1.0])
def test_pseudo_labels_and_their_mask_agree_with_numpy(form: adaptation.Alignment, threshold: float) -> None:
    source, target = logits(8, 3), logits(40, 4)
    found = adaptation.pseudo_labels(source, target, threshold=threshold, form=form)
    expected = aligned(softmax(source.numpy()), softmax(target.numpy()), form)
    least = threshold * softmax(source.numpy()).max(axis=1).mean()
    np.testing.assert_allclose(found.labels.numpy(), expected, rtol=1e-12)
    assert found.mask.tolist() == (expected.max(axis=1) >= least).tolist()
    assert found.mask.any()
    assert found.mask.all() == (form == "keras" or threshold == 0.5)


def test_pseudo_labels_pass_no_gradient() -> None:
    source, target = logits(4, 0).requires_grad_(), logits(4, 1).requires_grad_()
    found = adaptation.pseudo_labels(source, target, threshold=0.9)
    assert not found.labels.requires_grad


@pytest.mark.parametrize("form", FORMS)
def test_losses_agree_with_numpy(form: adaptation.Alignment) -> None:
    weak, strong, target = logits(6, 0), logits(6, 1), logits(18, 2)
    labels = torch.tensor([0, 1, 2, 3, 4, 9])
    hot = np.eye(10)[labels.numpy()]
    expected = cross_entropy(weak.numpy(), hot).mean() + cross_entropy(strong.numpy(), hot).mean()
    assert adaptation.source_loss(weak, strong, labels).item() == pytest.approx(expected, rel=1e-12)
    pseudo = adaptation.pseudo_labels(weak, logits(18, 3), threshold=0.9, form=form)
    each = cross_entropy(target.numpy(), pseudo.labels.numpy()) * pseudo.mask.numpy()
    assert adaptation.target_loss(target, pseudo).item() == pytest.approx(each.sum() / 18, rel=1e-12)


def test_masked_images_have_no_gradient() -> None:
    strong = logits(6, 0).requires_grad_()
    mask = torch.tensor([True, False, True, False, False, True])
    pseudo = adaptation.PseudoLabels(logits(6, 1).softmax(1), mask)
    adaptation.target_loss(strong, pseudo).backward()
    assert strong.grad is not None
    assert (strong.grad.abs().sum(1) > 0).tolist() == mask.tolist()


def test_mu_rises_to_one_at_half_of_the_schedule_and_stays() -> None:
    values = [adaptation.ramp(step, 100) for step in range(101)]
    assert values[0] == 0
    assert values[25] == pytest.approx(0.5)
    assert values[50:] == [1.0] * 51
    assert all(a <= b for a, b in itertools.pairwise(values))
    # The authors' SCB runs end after 38,200 of 93,700 steps.
    assert adaptation.ramp(38_200, 93_700) == pytest.approx(0.918, abs=5e-4)


def test_variances_of_gradients_are_those_of_a_loop() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).double()
    unused = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    images = torch.randn(5, 4, dtype=torch.float64)
    parameters = [*model.parameters(), unused]
    output = model(images).sum()
    found = gradient_variances(output, parameters)
    output.backward()
    expected = [0.0 if p.grad is None else float(np.var(p.grad.numpy())) for p in parameters]
    assert found.tolist() == pytest.approx(expected, rel=1e-6)
    assert expected[0] > 0
    # The last bias has the same gradient in every element.
    assert found[3].item() == pytest.approx(0, abs=1e-12)


def test_the_summary_is_that_of_the_figure() -> None:
    values = summary(torch.tensor([1.0, 2.0, 6.0]))
    assert values == {"max": 6.0, "mean": 3.0, "std": pytest.approx(math.sqrt(14 / 3))}
