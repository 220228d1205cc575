"""What images are compared by; the weights of MobileNetV2 only where they are."""

import cbnorm._torchvision  # noqa: F401  (before torchvision)

import numpy as np
import pytest
import torch

from cbnorm.data import catalog, cifar, sources, weights
from cbnorm.errors import CbnormError
from cbnorm.metrics import extractors, frechet_distance, moments


def images(n, seed=0, side=32):
    stream = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, 3, side, side), generator=stream, dtype=torch.uint8)


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory):
    """MobileNetV2 with weights of chance, in a file such as torchvision's."""
    from torchvision import models

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = models.mobilenet_v2()
    path = tmp_path_factory.mktemp("weights") / "mobilenet_v2-00000000.pth"
    torch.save(network.state_dict(), path)
    return extractors.mobilenet_v2(path=path), network.eval()


def test_pixels_are_means_of_cells():
    given = images(2)
    wanted = given.numpy().reshape(2, 3, 8, 4, 8, 4).mean((3, 5)) / 255
    found = extractors.pixels()(given)
    assert (found.dtype, found.shape) == (torch.float32, (2, extractors.pixels().dimension))
    assert np.allclose(found, wanted.reshape(2, -1), atol=1e-6)


def test_mobilenet_gives_what_its_classifier_sees(mobilenet):
    extractor, network = mobilenet
    seen = []
    network.classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    given = images(3)
    large = torch.nn.functional.interpolate(given.float() / 255, 96, mode="bilinear")
    mean, std = (
        torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    with torch.no_grad():
        network((large - mean) / std)
    found = extractor(given)
    assert found.shape == (3, extractor.dimension)
    assert torch.allclose(found, seen[0], atol=1e-5)


def test_how_many_images_come_at_once_does_not_matter(mobilenet, monkeypatch):
    extractor, _ = mobilenet
    given = images(5)
    together = extractor(given)
    monkeypatch.setattr(extractors, "_CHUNK", 2)
    assert torch.allclose(extractor(given), together, atol=1e-6)


def test_other_weights_are_refused(tmp_path):
    path = tmp_path / "net.pth"
    torch.save({"weight": torch.ones(2)}, path)
    with pytest.raises(CbnormError, match="does not hold the weights that are wanted"):
        extractors.mobilenet_v2(path=path)


@pytest.mark.parametrize("given", [torch.rand(2, 3, 32, 32), images(2)[:, :1], images(2)[0]])
def test_other_than_three_bytes_a_pixel_is_refused(given):
    with pytest.raises(TypeError, match="images must be uint8"):
        extractors.pixels()(given)


@pytest.mark.real_data("mobilenet_v2", "cifar100")
def test_with_the_real_weights_shuffled_pixels_are_farther_than_other_photographs():
    path, folder = weights.present(weights.MOBILENET), sources.folder_of(catalog.find("cifar100"))
    if path is None or not (folder / "test").exists():
        pytest.skip("the weights of MobileNetV2 or CIFAR-100 are not here")
    photographs = cifar.read_cifar100(folder)[1].images[:200]
    order = torch.randperm(32 * 32, generator=torch.Generator().manual_seed(0))
    shuffled = photographs[:100].flatten(2)[:, :, order].view(-1, 3, 32, 32)
    extractor = extractors.mobilenet_v2(path=path)
    real, others, noise = (moments(extractor(part)) for part in (*photographs.split(100), shuffled))
    assert frechet_distance(real, noise) > 1.3 * frechet_distance(real, others)
