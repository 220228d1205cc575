"""What somebody who misspelt a name may have meant."""

import difflib
from collections.abc import Iterable


def guess(word: str, choices: Iterable[str]) -> str:
    """The choice closest to a misspelt word, as a question; nothing when none is close.

    >>> guess("table55", ["table5", "dcgan"])
    "did you mean 'table5'?"
    >>> guess("BN", ["bn", "gn"])
    "did you mean 'bn'?"
    >>> guess("lr", ["optimizer.lr", "seed"])
    "did you mean 'optimizer.lr'?"
    >>> guess("mnist", ["cifar10"])
    ''
    """
    choices = sorted(choices)
    # The last part of a dotted key is what people misspell or leave the group off.
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    if not close:
        folded = {choice.casefold(): choice for choice in choices}
        close = [folded[word] for word in difflib.get_close_matches(word.casefold(), folded, n=1, cutoff=0.6)]
    if not close:
        tail = word.rpartition(".")[2]
        close = [choice for choice in choices if choice.rpartition(".")[2] == tail]
    return f"did you mean '{close[0]}'?" if close else ""


def nearest(word: str, choices: Iterable[str]) -> str:
    """As :func:`guess`, or else the choices there are, when a line can hold them.

    >>> nearest("mnist", ["cifar10", "cifar100"])
    'choose one of: cifar10, cifar100'
    """
    choices = sorted(choices)
    if question := guess(word, choices):
        return question
    if len(choices) > 30:
        return "see `cbnorm train --cfg job --resolve`"
    return f"choose one of: {', '.join(choices)}"
