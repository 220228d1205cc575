"""Named random streams: pure functions of seed, name and index."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from cbnorm.data.streams import derived_seed, generator

keys = st.tuples(st.integers(-(2**63), 2**63), st.text(max_size=8), st.lists(st.integers(0, 500), max_size=3))


@given(keys)
def test_a_stream_is_a_function_of_its_key(key):
    seed, name, index = key
    first, second = (generator(seed, name, *index) for _ in range(2))
    torch.rand(3)
    assert torch.equal(torch.rand(4, generator=first), torch.rand(4, generator=second))


@given(keys, keys)
def test_different_keys_give_different_seeds(first, second):
    seeds = {derived_seed(seed, name, *index) for seed, name, index in (first, second)}
    assert len(seeds) == (1 if first == second else 2)


def test_the_derivation_does_not_change_between_versions():
    # Changing it changes the numbers of every run: then numerics_version must be raised.
    assert derived_seed(0, "order", 3) == 9180628970799524807


def test_drawing_from_a_stream_leaves_the_global_generator_alone():
    before = torch.random.get_rng_state()
    torch.rand(5, generator=generator(1, "init"))
    assert torch.equal(before, torch.random.get_rng_state())
