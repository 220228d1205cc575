"""How sets of samples are judged: by real images of both splits, under one name per set of features."""

import math

import pytest
import torch

from cbnorm.metrics import frechet_distance, moments
from cbnorm.metrics.extractors import Extractor, pixels
from cbnorm.metrics.fid import Fid
from cbnorm.tasks.samples import Judge, RealImages


def images(count: int, seed: int, low: int = 0, high: int = 256) -> torch.Tensor:
    """Images of one colour each, with noise."""
    stream = torch.Generator().manual_seed(seed)
    color = torch.randint(low, high, (count, 3, 1, 1), generator=stream)
    noise = torch.randint(-20, 20, (count, 3, 8, 8), generator=stream)
    return (color + noise).clamp(0, 255).to(torch.uint8)


def labels(of: torch.Tensor) -> torch.Tensor:
    """The brightest colour of an image."""
    return of.double().mean((2, 3)).argmax(1)


@pytest.fixture(scope="module")
def real() -> RealImages:
    references, held_out = images(150, 0), images(100, 1)
    return RealImages(references, labels(references), held_out, labels(held_out), 3)


def halves() -> Extractor:
    """Means of the two halves of an image: another set of features."""
    chunk = lambda part: torch.nn.functional.adaptive_avg_pool2d(part.float(), (1, 2)).flatten(1)  # noqa: E731
    return Extractor("halves", 6, "means of halves", chunk, torch.device("cpu"))


@pytest.fixture(scope="module")
def judge(real: RealImages) -> Judge:
    return Judge(real, [halves(), pixels()])


def test_every_set_of_features_has_a_distance_of_its_own_name(judge: Judge, real: RealImages) -> None:
    samples = images(100, 2, high=128)
    found = judge(samples)
    for extractor in (pixels(), halves()):
        wanted = frechet_distance(moments(extractor(real.references)), moments(extractor(samples)))
        assert found[f"frechet_{extractor.name}"] == pytest.approx(wanted)
    assert "fid" not in found


def test_the_floor_is_what_held_out_images_get(judge: Judge, real: RealImages) -> None:
    again = judge(real.held_out)
    assert {key: judge.floor[key] for key in again} == again
    assert (judge.floor["samples"], judge.floor["references"]) == (100, 150)
    assert judge.floor["class_accuracy"] is not None
    assert judge.floor["class_accuracy"] > 80
    worse = judge(images(100, 2, high=128))
    assert worse["frechet_halves"] > 5 * judge.floor["frechet_halves"]
    assert judge.floor["coverage"] > worse["coverage"] > 0
    assert judge.floor["collapsed"] == 0


def test_held_out_images_are_looked_at_once(real: RealImages) -> None:
    seen: list[int] = []

    def mean(part: torch.Tensor) -> torch.Tensor:
        seen.append(len(part))
        return part.float().mean((2, 3))

    Judge(real, [Extractor("mean", 3, "mean colours", mean, torch.device("cpu")), pixels()])
    assert sum(seen) == len(real.references) + len(real.held_out)


def test_samples_of_one_class_have_little_entropy(judge: Judge, real: RealImages) -> None:
    red = real.held_out[real.held_out_labels == 0]
    found = judge(red.repeat(9, 1, 1, 1)[:100])
    assert found["class_entropy"] < 0.5 < math.log(2) < judge.floor["class_entropy"]


def test_collapse_is_recorded_as_a_number(judge: Judge, real: RealImages) -> None:
    assert judge(real.held_out[:1].expand(100, -1, -1, -1))["collapsed"] == 1.0
    assert judge(real.held_out[:10].repeat(10, 1, 1, 1))["collapsed"] == 1.0
    assert judge(images(100, 3))["collapsed"] == 0.0


def test_fid_is_there_where_its_network_is(real: RealImages) -> None:
    class Network(torch.nn.Module):
        num_features = 3

        def forward(self, part: torch.Tensor) -> torch.Tensor:
            return part.double().mean((2, 3))

    samples = images(100, 2)
    found = Judge(real, [pixels()], Fid(real.references, Network()))(samples)
    wanted = frechet_distance(*(moments(Network()(part)) for part in (real.references, samples)))
    assert found["fid"] == pytest.approx(wanted, rel=1e-6)


def test_fewer_references_than_samples_are_refused(real: RealImages) -> None:
    with pytest.raises(ValueError, match="50 references for 100 samples are too few"):
        RealImages(real.references[:50], real.labels[:50], real.held_out, real.held_out_labels, 3)
