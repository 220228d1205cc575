"""The words of a command: its options, as ``key=value`` or ``--key value``, and all others."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from cbnorm.errors import CbnormError
from cbnorm.spelling import nearest

_FLAG = {"true": True, "false": False}
#: Spellings that people know from other programs.
_ALIASES = {"dry_run": "dry"}
#: Words of other commands, for commands whose words are Hydra's too and would be looked for there.
_ELSEWHERE = {
    "again": "reproduce",
    "dry": "campaign",
    "force": "publish",
    "jobs": "reproduce and campaign",
    "out": "reproduce and collect",
    "rows": "reproduce and campaign",
    "seeds": "reproduce and campaign",
    "time_limit": "campaign",
}


def split(
    words: Sequence[str], command: str, keys: Collection[str], flags: Collection[str] = ()
) -> tuple[list[str], dict[str, str]]:
    """Split a command's words, given as to :func:`take`, into plain ones and options.

    Raises:
        CbnormError: An option is none of the command's, or has no value.
    """
    options, plain = take(words, command, keys, flags)
    for word in plain:
        key, equals, _ = word.partition("=")
        # A path may hold the sign too.
        if equals and "/" not in key:
            raise _unknown(word, command, {*keys, *flags})
    return plain, options


def take(
    words: Sequence[str], command: str, keys: Collection[str], flags: Collection[str] = ()
) -> tuple[dict[str, str], list[str]]:
    """Take a command's own options out of its words; the rest may be for Hydra.

    Args:
        words: What follows the command. The last value of an option counts, as with Hydra.
        command: Its name, for the refusal.
        keys: Options that have a value.
        flags: Options that :func:`flag` reads; ``--key`` alone is true.

    Returns:
        The options, and all other words in their order.

    Raises:
        CbnormError: A word that begins with ``-`` is no option of the command, or has no value.
    """
    own, options, others = {*keys, *flags}, {}, []
    # A command that has no store of its own hands the word on to Hydra, which has.
    for word in _spelled(words, command, own | {"store"}, flags):
        key, equals, value = word.partition("=")
        if equals and key in own:
            options[key] = value
        elif equals and key in _ELSEWHERE:
            raise CbnormError(f"'{word}' means nothing to {command}: it is a word of {_ELSEWHERE[key]}")
        else:
            others.append(word)
    return options, others


def names(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Words that name something, such as tables, and Hydra's overrides, in any order.

    >>> names(["dataset=cifar100", "table5"])
    (['table5'], ['dataset=cifar100'])
    """
    overrides = [word for word in words if "=" in word or "/" in word or word.startswith(("+", "~"))]
    return [word for word in words if word not in overrides], overrides


def flag(options: Mapping[str, str], key: str) -> bool:
    """Whether one of the options of a command was given and true, in any case of its letters.

    Raises:
        CbnormError: It is neither true nor false.

    >>> flag({"dry": "True"}, "dry"), flag({}, "dry")
    (True, False)
    """
    text = options.get(key, "false")
    if text.lower() not in _FLAG:
        raise CbnormError(f"{key}={text} must be true or false")
    return _FLAG[text.lower()]


def path_of(options: dict[str, str], key: str, default: str | Path) -> Path:
    """Take the file or folder that an option names out of the options; ``~`` is the user's own folder.

    Raises:
        CbnormError: It names nothing, or somebody who is unknown.
    """
    text = options.pop(key, str(default))
    if not text.strip() or "\0" in text:
        raise CbnormError(f"{key}= names nothing: write {key}=PATH")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise CbnormError(f"{key}={text}: no such user; name another place") from error


def _spelled(words: Sequence[str], command: str, known: set[str], flags: Collection[str]) -> Iterator[str]:
    """The words, with ``--time-limit 540`` and ``--time-limit=540`` as ``time_limit=540``."""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            yield word
            continue
        option, equals, value = word.partition("=")
        key, following = _key(option), rest[0] if rest else "-"
        if key not in known or not option.startswith("--"):
            raise _unknown(word, command, known)
        if not equals and key in flags and following.lower() not in _FLAG:
            value = "true"
        elif not equals and following.startswith("-"):
            raise CbnormError(f"{option} needs a value: write {key}=VALUE")
        elif not equals:
            value = rest.pop(0)
        yield f"{key}={value}"


def _key(option: str) -> str:
    key = option.lstrip("-").replace("-", "_")
    return _ALIASES.get(key, key)


def _unknown(word: str, command: str, known: Collection[str]) -> CbnormError:
    return CbnormError(f"'{word}' means nothing to {command}: {nearest(_key(word.partition('=')[0]), known)}")
