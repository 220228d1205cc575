"""What partitions know about classes, and contact sheets of k-means clusters.

    python benchmarks/partition_knowledge.py cifar10 cifar100      (about half an hour on one core)

Writes results/partitions/knowledge.csv, a line per partition, and results/partitions/NAME-kmeans-K.png.
Clusters are fitted on the training images of budget=full (45,000), seed 0; it is what
`cbnorm partitions show` tells of one partition.
"""

import csv
import sys
from pathlib import Path

import torch

from cbnorm.config.compose import compose_run
from cbnorm.data.images import ImageData
from cbnorm.partitions import PIXEL_FEATURES, Assignment, measures
from cbnorm.partitions.sheet import contact_sheet
from cbnorm.runs.build import load_data
from cbnorm.runs.partitioning import assigned, splits_of

OUT = Path(__file__).parents[1] / "results" / "partitions"
COLUMNS = [
    "dataset",
    "partition",
    "features",
    "clusters",
    "nmi_train",
    "nmi_test",
    "bits_test",
    "silhouette",
    "updates",
    "shares_train",
]
SHOWN = 20


def partitions(dataset: str) -> list[list[str]]:
    """Overrides of every partition of a data set, quick ones first."""
    fitted = [
        [f"partition={method}", f"partition.features={features}", f"partition.clusters={clusters}"]
        for features in reversed(PIXEL_FEATURES)
        for method in ("kmeans", "gmm")
        for clusters in (3, 5)
    ]
    given = [["partition=superclass"]] if dataset == "cifar100" else []
    return [*given, ["partition=random"], *fitted]


def line(dataset: str, data: ImageData, found: Assignment, features: str) -> dict[str, object]:
    fit = found.fits.get("train")
    positions = measures.sample(len(data.train), measures.SAMPLE, 0)
    points = measures.clustered_points(fit, data.train, positions)
    known = {key: measures.knowledge(found.ids[key], split.labels) for key, split in splits_of(data).items()}
    score = measures.silhouette(points, found.ids["train"][positions])
    shares = torch.bincount(found.ids["train"], minlength=found.num_clusters) / len(data.train)
    return {
        "dataset": dataset,
        "partition": found.description["method"],
        "features": features,
        "clusters": found.num_clusters,
        "nmi_train": f"{known['train']['nmi']:.4f}",
        "nmi_test": f"{known['test']['nmi']:.4f}",
        "bits_test": f"{known['test']['bits']:.3f}",
        "silhouette": "" if score is None else f"{score:.3f}",
        "updates": found.description.get("iterations", ""),
        "shares_train": " ".join(f"{share:.3f}" for share in shares.sort(descending=True).values.tolist()),
    }


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    lines = []
    for dataset in sys.argv[1:]:
        common = [f"dataset={dataset}", "budget=full"]
        data = load_data(compose_run(common))
        for config in [compose_run([*common, *words]) for words in partitions(dataset)]:
            found = assigned(config, data, torch.device("cpu"), lambda _: torch.nn.Identity())
            name, features = config.partition.name, config.partition.features
            given = name in {"random", "superclass"}
            lines.append(line(dataset, data, found, "" if given else features))
            print(*lines[-1].values(), flush=True)
            if (name, features) == ("kmeans", "raw"):
                k = found.num_clusters
                sheet = contact_sheet(
                    data.train.images, found.ids["train"], k, per_cluster=SHOWN, columns=SHOWN
                )
                sheet.save(OUT / f"{dataset}-kmeans-{k}.png", optimize=True)
    with (OUT / "knowledge.csv").open("w", encoding="utf8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


if __name__ == "__main__":
    main()
