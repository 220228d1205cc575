"""docs/extend.md shows the example package as it is, and its commands are understood."""

import re
import shlex
from pathlib import Path

import pytest

from cbnorm.config.compose import compose_run
from cbnorm.runs.plan import expand, find_experiment, parse_seeds, plan

ROOT = Path(__file__).parents[2]
PACKAGE = Path(__file__).parent / "package"
DOC = (ROOT / "docs" / "extend.md").read_text(encoding="utf8")
FILES = [
    path.relative_to(PACKAGE)
    for path in sorted(PACKAGE.rglob("*"))
    if path.suffix in {".py", ".csv", ".toml"}
]
COMMANDS = [line for line in DOC.splitlines() if line.startswith("cbnorm ")]


@pytest.mark.parametrize("file", [file for file in FILES if file.name != "__init__.py"], ids=str)
def test_every_file_of_the_package_is_shown_and_short(file: Path) -> None:
    text = (PACKAGE / file).read_text(encoding="utf8")
    assert re.search(rf"^`{re.escape(str(file))}`.*\n\n```\w*\n{re.escape(text)}```$", DOC, re.MULTILINE)
    assert len(text.splitlines()) <= 30


@pytest.mark.usefixtures("example")
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_are_understood(command: str) -> None:
    _, verb, *words = shlex.split(command)
    if verb == "train":
        assert all(compose_run(words).seed == 0 for words in expand([w for w in words if "=" in w]))
    elif verb == "reproduce":
        seeds = parse_seeds(words.pop().removeprefix("seeds="))
        assert len(plan(find_experiment(words[0]), words[1:], seeds=seeds)) == 4 * len(seeds)
    else:
        assert (verb, words) == ("data", ["list"])


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", DOC):
        assert (ROOT / "docs" / target).exists(), target
