"""Values set on a composed copy give what Hydra gives when it composes everything at once."""

import pytest
from omegaconf import OmegaConf

from cbnorm.config import compose as module
from cbnorm.config.compose import check, compose_run
from cbnorm.errors import CbnormError

WORDS = [
    ("norm=ucb", "optimizer.lr=0.005"),
    ("norm=scb", "partition=gmm", "partition.clusters=1", "protocol=released", "dataset=cifar100"),
    ("protocol=paper", "budget=full", "dataset.image_size=64", "norm=bn", "norm.affine=false", "seed=3"),
    ("model.placement=[1,2]", "trainer.moments=[50,100]", "experiment=table5"),
    ("optimizer.lr=0.1", "optimizer.lr=0.2", "trainer.max_epochs=7", "norm=mn"),
    ("norm.components=${trainer.max_epochs}", "norm=mn", "trainer.max_epochs=9"),
]


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_both_ways_give_the_same_config(words: tuple[str, ...]) -> None:
    shared, whole = module._compose(words), module._by_hydra(words)
    assert OmegaConf.to_container(shared) == OmegaConf.to_container(whole)
    assert check(shared) == check(whole) == compose_run(words)


def test_setting_values_leaves_what_is_shared_alone() -> None:
    first = compose_run(["norm=mn", "norm.components=7"])
    assert compose_run(["norm=mn", "norm.eps=0.1"]).norm.components != 7
    assert first.norm.components == 7


@pytest.mark.parametrize("word", ["optimizer.lrr=1", "trainer.batch=1", "norm.nothing.here=1"])
def test_misspelt_values_are_refused_as_before(word: str) -> None:
    with pytest.raises(CbnormError, match="unknown option"):
        compose_run(["norm=bn", word])
