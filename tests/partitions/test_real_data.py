"""The authors' CIFAR-100 list of five clusters is k-means on raw pixels: its shares come out again."""

import pytest
import torch

from cbnorm.config.compose import compose_run
from cbnorm.data import sources
from cbnorm.data.cifar import read_cifar100
from cbnorm.errors import CbnormError
from cbnorm.partitions import fit_partition

#: Shares of the released list of training images, up to the order of the clusters.
RELEASED = (0.115, 0.188, 0.197, 0.204, 0.296)


@pytest.mark.real_data("cifar100")
def test_released_k5_has_the_shares_of_the_released_list() -> None:
    try:
        folder = sources.require("cifar100")
    except CbnormError as error:
        pytest.skip(str(error))
    chosen = compose_run(["dataset=cifar100", "partition=released_k5"]).partition
    images = read_cifar100(folder)[0].images
    assert len(images) == 50_000
    options = {"clusters": chosen.clusters, "seed": chosen.seed, "features": chosen.features}
    partition = fit_partition(chosen.name, images, **options)
    torch.testing.assert_close(
        partition.frequencies.sort().values, torch.tensor(RELEASED, dtype=torch.float64), atol=0.002, rtol=0
    )
