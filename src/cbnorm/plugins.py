"""Norms, models, data sets and experiments of other packages, declared as entry points.

Imports the standard library only. Names are read from the metadata of what is installed; a package
is imported when something of it is asked for by name, so that it can neither slow nor break
anything else.
"""

import importlib.metadata
import inspect
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import Distribution, EntryPoint
from types import MappingProxyType
from typing import Any

from cbnorm.errors import CbnormError
from cbnorm.spelling import guess

CLUSTERED_NORMS = "cbnorm.clustered_norms"

#: Entry point groups by the config group that their names can be chosen in.
GROUPS = {
    "norm": ("cbnorm.norms", CLUSTERED_NORMS),
    "model": ("cbnorm.models",),
    "dataset": ("cbnorm.datasets",),
    "experiment": ("cbnorm.experiments",),
}

# What can stand on the right of `norm=` without quotes.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


class PluginError(CbnormError, ValueError):
    """Something of another package is missing, ambiguous or broken; a ValueError for users of the library."""


@dataclass(frozen=True)
class Plugin:
    """Something that a package declares.

    Attributes:
        kind: The config group: ``norm``, ``model``, ``dataset`` or ``experiment``.
        name: What it is chosen by.
        package: The distribution's name, in the normal form of the package index.
        version: The distribution's version.
        entry: The entry point.
    """

    kind: str
    name: str
    package: str
    version: str
    entry: EntryPoint

    @property
    def qualified(self) -> str:
        """The name with its package: what a run's identity holds."""
        return f"{self.package}:{self.name}"

    def __str__(self) -> str:
        return f"{self.kind} '{self.name}' of package {self.package} {self.version}"


def names(kind: str) -> list[str]:
    """What can be chosen of a kind, besides our own."""
    return sorted(_found()[kind])


def find(kind: str, name: str) -> Plugin:
    """What is called ``name``, without importing it.

    Raises:
        PluginError: No package declares it, or several do.
    """
    declared = _found()[kind].get(name, ())
    if len(declared) == 1:
        return declared[0]
    if not declared:
        raise PluginError(f"no installed package brings a {kind} '{name}': install the one that does")
    raise PluginError(
        f"{kind} '{name}' is declared by {' and by '.join(_declaration(p) for p in declared)}: "
        "uninstall all but one of them"
    )


def refuse_twice(kind: str, name: str) -> None:
    """Refuse a name of our own that another package declares too: nobody could tell which one is meant.

    Raises:
        PluginError: A package does.
    """
    if declared := _found()[kind].get(name):
        raise PluginError(
            f"{kind} '{name}' is cbnorm's own, but {_declaration(declared[0])} declares it too: "
            "uninstall that package, or have it choose another name"
        )


def load(kind: str, name: str) -> Any:
    """Import what is called ``name``.

    Raises:
        PluginError: As :func:`find`; or the package fails on import.
    """
    plugin = find(kind, name)
    try:
        return plugin.entry.load()
    except (Exception, SystemExit) as error:
        gist = (str(error).splitlines() or [""])[0][:200]
        raise PluginError(
            f"{plugin} can't be imported ({type(error).__name__}: {gist}): mend or uninstall the package"
        ) from error


def misfit(
    function: Any, options: Mapping[str, Any], *, given: Collection[str] = (), positional: int
) -> str | None:
    """Why ``function(*positional, **given, **options)`` can't be called; None when it can.

    Args:
        function: A class or function.
        options: What a user wants to give by name.
        given: Names of what is given besides.
        positional: Number of arguments before.

    >>> misfit(int.from_bytes, {"singed": True}, positional=2)
    "has no option 'singed'; did you mean 'signed'? It takes: signed"
    """
    if not callable(function):
        return f"is of type {type(function).__name__}, which can't be called"
    known, any_name = keywords(function, positional)
    for name in given:
        if name not in known and not any_name:
            return f"must take the argument '{name}'"
        if name in options:
            return f"takes '{name}' from elsewhere in the config: it is no option"
    taken = [name for name in known if name not in given]
    for name in options:
        if name not in taken and not any_name:
            question = guess(name, taken)
            hint = f"; {question}" if question else "."
            return f"has no option '{name}'{hint} It takes: {', '.join(taken) or 'none'}"
    missing = [name for name in taken if known[name] and name not in options]
    return f"needs the option '{missing[0]}'" if missing else None


def keywords(function: Callable[..., Any], positional: int) -> tuple[dict[str, bool], bool]:
    """What a function takes by name after its first arguments, each with whether it is necessary.

    The second value says that it takes any other name too.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:  # some that are written in C have no signature
        return {}, True
    by_name = [p for p in parameters[positional:] if p.kind in {p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY}]
    return {p.name: p.default is p.empty for p in by_name}, any(p.kind is p.VAR_KEYWORD for p in parameters)


def _declaration(plugin: Plugin) -> str:
    return f"package {plugin.package} {plugin.version} ({plugin.entry.group})"


def _found() -> Mapping[str, Mapping[str, tuple[Plugin, ...]]]:
    return _scan(tuple(sys.path))


@lru_cache(maxsize=8)
def _scan(_path: tuple[str, ...]) -> Mapping[str, Mapping[str, tuple[Plugin, ...]]]:
    """Everything that is declared, by kind and name."""
    found: dict[str, dict[str, tuple[Plugin, ...]]] = {kind: {} for kind in GROUPS}
    seen = set()
    for distribution in importlib.metadata.distributions():
        try:
            declared = list(_declared(distribution))
        except Exception:  # noqa: BLE001, S112  (the metadata of one package, however broken, concern no other)
            continue
        # Of two copies of a distribution, Python imports the one that comes first.
        package = declared[0].package if declared else None
        if package in seen:
            continue
        seen.add(package)
        for plugin in declared:
            found[plugin.kind][plugin.name] = (*found[plugin.kind].get(plugin.name, ()), plugin)
    return MappingProxyType(found)


def _declared(distribution: Distribution) -> Iterator[Plugin]:
    # Most packages have nothing for us: their metadata need not be parsed.
    if "cbnorm." not in (distribution.read_text("entry_points.txt") or ""):
        return
    package = re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()
    kinds = {group: kind for kind, groups in GROUPS.items() for group in groups}
    for entry in distribution.entry_points:
        if entry.group in kinds and _NAME.fullmatch(entry.name):
            yield Plugin(kinds[entry.group], entry.name, package, distribution.version, entry)
