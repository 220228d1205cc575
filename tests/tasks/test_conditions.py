"""Readings without, with guessed, and with wrong ids, each against direct computation on a tiny network."""

import copy

import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn
from torch.nn import functional as F

from cbnorm.config.compose import compose_run
from cbnorm.norms import SCBNorm, apply_norm, create_norm
from cbnorm.tasks.classification import Classification, ClassificationReader
from cbnorm.tasks.conditions import Averaged, ByMoments, Masked, Told, groups_of_classes, permuted
from cbnorm.tasks.predictions import predict

N, CLASSES, GROUPS = 23, 6, 3
#: Classes 0 and 3 are group 0, and so on.
OF_CLASS = torch.tensor([0, 1, 2, 0, 1, 2])


class Grouped(nn.Module):
    """A layer of SCB-Norm on the image and a linear layer, so that ids matter."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = SCBNorm(3, GROUPS, convention="released", seed=1)
        self.linear = nn.Linear(3 * 4, CLASSES)

    def features(self, images: torch.Tensor, clusters: torch.Tensor | None = None) -> torch.Tensor:
        return apply_norm(self.norm, images, clusters).flatten(1)

    def forward(self, images: torch.Tensor, clusters: torch.Tensor | None = None) -> torch.Tensor:
        return self.linear(self.features(images, clusters))


@pytest.fixture
def task() -> Classification:
    torch.manual_seed(0)
    return Classification(Grouped(), compose_run([]).optimizer)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(N, 3, 2, 2, generator=torch.Generator().manual_seed(1))


LABELS = torch.arange(N) % CLASSES
IDS = OF_CLASS[LABELS]


def batches(images: torch.Tensor, size: int = 5) -> list[tuple[torch.Tensor, ...]]:
    return list(zip(images.split(size), LABELS.split(size), IDS.split(size), strict=True))


def losses(logits: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits, LABELS, reduction="none")


def test_ids_that_are_told_belong_to_their_images_whatever_the_batches(task, images) -> None:
    ids = torch.randint(-1, GROUPS, (N,), generator=torch.Generator().manual_seed(2))
    expected = task.model(images, ids)
    for size in (1, 5, N):
        found = predict(task, batches(images, size), Told(ids))
        assert torch.equal(found.predicted, expected.argmax(1))
        torch.testing.assert_close(found.losses, losses(expected))


def test_unknown_ids_are_those_of_equation_12_for_every_image(task, images) -> None:
    found = predict(task, batches(images), Told(torch.full((N,), -1)))
    norm = task.model.norm.double()
    mean, deviation = norm.clusters(torch.float64)
    x = images.double()
    each = (x[:, None] - mean[None, :, :, None, None]) / deviation[None, :, :, None, None]
    # One posterior per image: log densities are summed over channels and positions.
    log_density = -0.5 * each.square().flatten(2).sum(2) - 4 * deviation.log().sum(1)
    mixed = (log_density.softmax(1)[:, :, None, None, None] * each).sum(1)
    expected = task.model.linear.double()(mixed.flatten(1))
    torch.testing.assert_close(found.losses.double(), losses(expected), atol=1e-5, rtol=1e-5)


def test_averaging_sums_over_all_ids_with_the_weights_of_each_image(task, images) -> None:
    weights = torch.rand(N, GROUPS, generator=torch.Generator().manual_seed(3)).softmax(1)
    under = torch.stack([task.model(images, torch.full((N,), k)) for k in range(GROUPS)], dim=1)
    expected = torch.einsum("nk,nkc->nc", weights, under)
    found = predict(task, batches(images), Averaged(weights))
    torch.testing.assert_close(found.losses, losses(expected))
    assert torch.equal(found.predicted, expected.argmax(1))


def test_averaging_with_certain_weights_is_telling_the_id(task, images) -> None:
    certain = predict(task, batches(images), Averaged(F.one_hot(IDS, GROUPS).float()))
    torch.testing.assert_close(certain.losses, predict(task, batches(images), Told(IDS)).losses)


def test_masking_leaves_a_choice_among_the_classes_of_the_group(task, images) -> None:
    found = predict(task, batches(images), Masked(OF_CLASS, IDS))
    blind = task.model(images, None)
    for place in range(N):
        own = (IDS[place] == OF_CLASS).nonzero().flatten()
        among = blind[place, own]
        assert found.predicted[place] == own[among.argmax()]
        expected = F.cross_entropy(among, (own == LABELS[place]).nonzero().flatten()[0])
        torch.testing.assert_close(found.losses[place], expected)
    assert torch.equal(OF_CLASS[found.predicted], IDS)
    # Two classes are left: the true one is among the first two.
    assert found.ranks.max() <= 1
    assert found.top5 == 100


def test_masking_can_only_help(task, images) -> None:
    blind = predict(task, batches(images), Told(torch.full((N,), -1)))
    masked = predict(task, batches(images), Masked(OF_CLASS, IDS))
    assert bool((masked.losses <= blind.losses).all())
    assert masked.accuracy >= blind.accuracy


def test_permuted_ids_are_as_many_of_each_and_stay_the_same() -> None:
    made = [permuted(IDS, torch.Generator().manual_seed(4)) for _ in range(2)]
    assert torch.equal(*made)
    assert torch.equal(made[0].bincount(), IDS.bincount())
    assert not torch.equal(made[0], IDS)


@pytest.fixture(params=["ucb", "uan"])
def mixed(request, images) -> Classification:
    """A network with a layer of UCB-Norm or UAN on the image whose running moments have moved."""
    torch.manual_seed(0)
    network = Grouped()
    network.norm = create_norm(request.param, 3, num_components=2)
    for _ in range(3):
        network.norm(3 * images + 1)
    return Classification(network, compose_run([]).optimizer)


def by(source: str, task: Classification, part: torch.Tensor) -> torch.Tensor:
    """Logits of images by a layer that was made to evaluate so."""
    made = create_norm("ucb", 3, num_components=2, eval_stats=source).eval()
    made.load_state_dict(task.model.norm.state_dict())
    return task.model.linear(made(part).flatten(1))


def test_running_moments_read_every_image_on_its_own(mixed, images) -> None:
    expected = by("running", mixed, images)
    for size in (1, 5, N):
        found = predict(mixed, batches(images, size), ByMoments("running"))
        torch.testing.assert_close(found.losses, losses(expected))


def test_moments_of_the_batch_are_those_of_the_images_read_together(mixed, images) -> None:
    whole = by("batch", mixed, images)
    torch.testing.assert_close(predict(mixed, batches(images, N), ByMoments("batch")).losses, losses(whole))
    fours = torch.cat([by("batch", mixed, part) for part in images.split(4)])
    found = predict(mixed, batches(images, N), ByMoments("batch", most=4))
    torch.testing.assert_close(found.losses, losses(fours))
    for one, other in ((whole, fours), (whole, by("running", mixed, images))):
        assert (one - other).abs().max() > 0.01


def test_layers_get_their_own_moments_back_also_after_an_error(mixed, images) -> None:
    own, before = mixed.model.norm.eval_stats, mixed.model.norm.running_mean.clone()
    other = "batch" if own == "running" else "running"
    predict(mixed, batches(images), ByMoments(other))
    assert mixed.model.norm.eval_stats == own
    with pytest.raises(ValueError, match="channels"):
        predict(mixed, [(images[:, :2], LABELS, IDS)], ByMoments(other))
    assert mixed.model.norm.eval_stats == own
    assert torch.equal(mixed.model.norm.running_mean, before)


def test_groups_that_do_not_follow_from_classes_are_refused() -> None:
    assert torch.equal(groups_of_classes(LABELS, IDS, CLASSES), OF_CLASS)
    with pytest.raises(ValueError, match="groups don't follow from the classes"):
        groups_of_classes(torch.tensor([0, 0]), torch.tensor([0, 1]), 1)
    with pytest.raises(ValueError, match="groups don't follow from the classes"):
        groups_of_classes(torch.tensor([0]), torch.tensor([0]), 2)


def test_a_reader_names_what_it_read_under_which_condition(task, images) -> None:
    conditions = {"unknown": Told(torch.full((N,), -1)), "permuted": Told(IDS.flip(0))}
    reading = ClassificationReader(CLASSES, batches(images), batches(images), conditions).read(task)
    for name, condition in conditions.items():
        expected = predict(task, batches(images), condition)
        assert reading.metrics[f"{name}.accuracy"] == expected.accuracy
        assert reading.metrics[f"{name}.top5"] == expected.top5
        assert torch.equal(reading.arrays[f"{name}.predicted"], expected.predicted)
    assert reading.metrics["accuracy"] == predict(task, batches(images)).accuracy


def test_probabilities_are_kept_of_every_image(task, images) -> None:
    reader = ClassificationReader(CLASSES, batches(images), batches(images), probabilities=True)
    kept = reader.read(task).arrays["probabilities"]
    assert kept.dtype == torch.float16
    expected = task.model(images, IDS).softmax(1)
    torch.testing.assert_close(kept.float(), expected, atol=1e-3, rtol=1e-3)


def test_components_are_those_of_scikit_learn(task, images) -> None:
    arrays = ClassificationReader(CLASSES, batches(images), batches(images), components=3).read(task).arrays
    features = task.model.features(images, IDS).detach().double().numpy()
    theirs = PCA(3).fit(features)
    coordinates = torch.from_numpy(theirs.transform(features)).abs()
    torch.testing.assert_close(arrays["components"].double().abs(), coordinates, atol=5e-3, rtol=5e-3)
    explained = torch.from_numpy(theirs.explained_variance_ratio_)
    torch.testing.assert_close(arrays["explained"].double(), explained, atol=1e-3, rtol=1e-3)


def test_weights_can_be_selected_by_the_validation_loss(task, images) -> None:
    reader = ClassificationReader(CLASSES, batches(images), batches(images), select="loss")
    row = reader.validate(task)
    assert reader.score(row) == -row["val_loss"]
    assert reader.score({"val_loss": None, "val_accuracy": 50.0}) == float("-inf")


@pytest.mark.parametrize("select", ["accuracy", "loss"])
def test_a_test_curve_is_told_and_selects_nothing(task, images, select) -> None:
    others = batches(images.flip(0))
    plain = ClassificationReader(CLASSES, batches(images), others, select=select)
    curve = ClassificationReader(CLASSES, batches(images), others, select=select, test_curve=True)
    row, longer = plain.validate(task), curve.validate(task)
    tested = predict(task, others)
    assert longer == row | {"test_loss": tested.loss, "test_accuracy": tested.accuracy}
    assert curve.score(longer) == plain.score(row)
    assert curve.score(longer | {"test_loss": 0.0, "test_accuracy": 100.0}) == plain.score(row)


def test_a_test_curve_is_not_predicted_twice_by_the_same_weights(task, images) -> None:
    read: list[str] = []

    class Named(list):
        def __iter__(self):
            read.append("test")
            return super().__iter__()

    reader = ClassificationReader(CLASSES, batches(images), Named(batches(images.flip(0))), test_curve=True)
    plain = ClassificationReader(CLASSES, batches(images), batches(images.flip(0)))

    def told(expected: int) -> None:
        read.clear()
        found, wanted = reader.read(task), plain.read(task)
        assert found.metrics == wanted.metrics
        assert torch.equal(found.arrays["predicted"], wanted.arrays["predicted"])
        assert len(read) == expected

    reader.validate(task)
    told(0)
    told(1)  # what was kept is told once
    # The best weights so far, on a copy.
    reader.validate(task)
    model, task.model = task.model, copy.deepcopy(task.model)
    with torch.no_grad():
        task.model.linear.weight.neg_()
    told(1)
    task.model = model
    # Further steps, after which validation was not read: a run that diverges.
    reader.validate(task)
    task.begin_step(task.step + 1)
    with torch.no_grad():
        task.model.linear.weight.neg_()
    told(1)


def test_clusters_that_begin_equal_stay_equal_while_ids_are_withheld(task, images) -> None:
    """Why the row without ids in training has the released start, which is drawn at random."""
    spread = {}
    for convention in ("paper", "released"):
        norm = task.model.norm = SCBNorm(3, GROUPS, convention=convention, seed=1)
        optimizer = torch.optim.AdamW(task.model.parameters(), 0.1)
        for _ in range(3):
            loss = F.cross_entropy(task.model(images, torch.full((N,), -1)), LABELS)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        spread[convention] = norm.mean.detach().std(0).max().item()
    assert spread["paper"] < 1e-6
    assert spread["released"] > 0.1
