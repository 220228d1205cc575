"""Named random streams: generators derived from a seed, a name and a place in time.

A stream keeps no state. Whoever needs the order of epoch 7 asks for that stream's generator
of epoch 7, so that a resumed run draws what an uninterrupted one would have drawn, and rows
that share a seed share every stream, whatever else they draw.
"""

import hashlib

import torch


def derived_seed(seed: int, name: str, *index: int) -> int:
    """Derive a seed from a run's seed, a stream's name and indices such as an epoch.

    The first eight bytes of SHA-256 over an unambiguous encoding of the arguments, without
    the sign bit: independent of platform, process and library versions.

    Args:
        seed: The run's seed, any integer.
        name: The stream's name: ``init``, ``order``, ``augmentation``, ``partition``, ...
        *index: Where in the stream, for instance the epoch.

    Returns:
        An integer in [0, 2**63).

    >>> derived_seed(0, "order", 3) == derived_seed(0, "order", 3)
    True
    >>> len({derived_seed(0, "order", 3), derived_seed(0, "order", 4), derived_seed(1, "order", 3)})
    3
    """
    digest = hashlib.sha256(repr((int(seed), str(name), tuple(map(int, index)))).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, name: str, *index: int) -> torch.Generator:
    """Return a CPU generator at the beginning of a named stream.

    Args:
        seed: The run's seed, any integer.
        name: The stream's name.
        *index: Where in the stream, for instance the epoch.

    Returns:
        A new generator; two calls with equal arguments return generators that draw the same.

    >>> draw = lambda: torch.rand(2, generator=generator(0, "augmentation", 5))
    >>> torch.equal(draw(), draw())
    True
    """
    return torch.Generator().manual_seed(derived_seed(seed, name, *index))
