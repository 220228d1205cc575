"""Put a cluster-based layer into a model you did not write: ``python examples/convert_resnet.py``.

torchvision's ResNet-18 knows nothing of clusters. ``convert_norm`` swaps batch normalization layers in place,
and ``cluster_ids`` hands the ids of a batch to the new layers without a change to the model's forward. The
images are random: this shows the two calls, not a result.
"""

import argparse

import cbnorm._torchvision  # noqa: F401  (before torchvision)

import torch
from torch.nn import functional as F
from torchvision.models import resnet18

from cbnorm.norms import NORMS, cluster_ids, convert_norm, takes_clusters
from cbnorm.norms.registry import option_names

CLASSES, CLUSTERS = 10, 3


def train(norm: str = "scb", where: str = "first", steps: int = 6) -> list[float]:
    """Convert a ResNet-18 and train it on one batch of random images; the loss before every step."""
    torch.manual_seed(0)
    model = resnet18(num_classes=CLASSES)
    option = next((name for name in ("num_clusters", "num_components") if name in option_names(norm)), None)
    changed = convert_norm(model, norm, where=where, **({option: CLUSTERS} if option else {}))
    for path, layer in changed.items():
        print(f"{path}: {layer}" + (" takes cluster ids" if takes_clusters(layer) else ""))

    images, labels = torch.randn(8, 3, 64, 64), torch.randint(0, CLASSES, (8,))
    clusters = torch.randint(-1, CLUSTERS, (8,))  # -1: this image's cluster is unknown
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    losses = []
    for _ in range(steps):
        with cluster_ids(clusters):
            loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print("loss", *(f"{loss:.3f}" for loss in losses))
    return losses


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--norm", choices=sorted(NORMS), default="scb")
    parser.add_argument("--where", default="first", help="first, all, or a regular expression")
    parser.add_argument("--steps", type=int, default=6)
    arguments = parser.parse_args()
    train(arguments.norm, arguments.where, arguments.steps)


if __name__ == "__main__":
    main()
