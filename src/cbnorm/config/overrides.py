"""Words of a command line as Hydra's overrides: read, refused in one line, or put in quotes for it."""

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import OverrideParseException

from cbnorm.config.choices import groups, refuse_ambiguous
from cbnorm.errors import CbnormError
from cbnorm.spelling import nearest

#: Options whose values name folders, which may be called anything.
_FOLDERS = ("store=", "dataset.folder=")


def parse(overrides: Sequence[str]) -> list[Override]:
    """Parse overrides and refuse unknown groups and names without composing anything."""
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except OverrideParseException as error:
        key, _, value = str(error.override).partition("=")
        hint = f"a value with such signs needs quotes within quotes, as in \"{key}='{value}'\""
        plain = not value or "'" in value or key in groups()
        hint = "write key=value" if plain else hint
        raise CbnormError(f"cannot read '{error.override}': {hint}") from error
    for override in parsed:
        _check_choice(override)
    return parsed


def _check_choice(override: Override) -> None:
    group = override.key_or_group
    if override.is_delete() and group in groups() and group != "experiment":
        raise CbnormError(f"'{override.input_line}' takes away what a run needs: choose with {group}=NAME")
    if group.endswith(".name") and group.removesuffix(".name") in groups():
        raise CbnormError(
            f"'{group}' follows from the choice of a group: write {group.removesuffix('.name')}=NAME"
        )
    if group not in groups() or override.is_delete():
        return
    for name in sweep_values(override) if override.is_sweep_override() else [override.value()]:
        if name is None and group == "experiment":
            continue
        if str(name) not in groups()[group]:
            raise CbnormError(f"unknown {group} '{name}': {nearest(str(name), groups()[group])}")
        refuse_ambiguous(group, str(name))


def sweep_values(override: Override) -> list[str]:
    """The values that a sweep over one key names, as words.

    Raises:
        CbnormError: It names none.
    """
    key = override.key_or_group
    value: Any = override.value()
    if override.is_interval_sweep():
        raise CbnormError(f"'{override.input_line}' names no values: write them with commas, as in {key}=A,B")
    if not isinstance(value, Glob):
        return list(override.sweep_string_iterator())
    found = value.filter(groups().get(key, []))
    if not found:
        known = f"one of {', '.join(groups()[key])}" if key in groups() else "values, separated by commas"
        raise CbnormError(f"'{override.input_line}' fits no name: write {known}")
    return found


def quoted(words: Sequence[str]) -> list[str]:
    """Words with folders in quotes where signs in their names are none of Hydra's grammar.

    A list of several, which would be taken for one name, is left as it is, and ``~`` is one's own folder.

    >>> quoted(["store=/lr=1", "store=runs", "norm=a=b"])
    ["store='/lr=1'", 'store=runs', 'norm=a=b']
    """
    return [_quoted(word) if word.startswith(_FOLDERS) and "," not in word else word for word in words]


def _quoted(word: str) -> str:
    key, _, value = word.partition("=")
    if value.startswith("~"):
        with suppress(RuntimeError):
            value = str(Path(value).expanduser())
    try:
        OverridesParser.create().parse_overrides([f"{key}={value}"])
    except OverrideParseException:
        # Within quotes, backslashes count as such before a quote and at the end alone.
        value = re.sub(r"(\\+)(?='|$)", r"\1\1", value).replace("'", "\\'")
        return f"{key}='{value}'"
    return f"{key}={value}"
