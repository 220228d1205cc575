"""Every command that the README shows is understood."""

import re
import shlex
from pathlib import Path

import pytest

from cbnorm.config.compose import compose_run, compose_sweep_params
from cbnorm.runs.plan import expand, find_experiment, parse_seeds, plan

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf8")
COMMANDS = [
    line.partition("#")[0].strip() for line in README.splitlines() if re.match(r"(cbnorm|make) ", line)
]


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make ")])
def test_make_targets_exist(command: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf8")
    _, target, *settings = command.split()
    assert re.search(rf"^{re.escape(target)}:.*##", makefile, re.MULTILINE)
    assert all(
        re.search(rf"^{setting.partition('=')[0]} *\?=", makefile, re.MULTILINE) for setting in settings
    )


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("cbnorm ")])
def test_cbnorm_commands_compose(command: str) -> None:
    _, verb, *words = shlex.split(command)
    if verb == "train":
        overrides = [word for word in words if not word.startswith("-") and "=" in word]
        for combination in expand(overrides, compose_sweep_params([]) if "-m" in words else None):
            assert compose_run(combination).seed == 0
    else:
        assert verb == "reproduce"
        seeds = [parse_seeds(word.removeprefix("seeds=")) for word in words if word.startswith("seeds=")]
        overrides = [word for word in words[1:] if not word.startswith("seeds=")]
        assert len(plan(find_experiment(words[0]), overrides, seeds=(seeds or [[0]])[0])) >= 10


def test_the_library_lines_run() -> None:
    from torch import nn

    block = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert block is not None
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    space = {"model": model}
    exec(block.group(1), space)
    assert type(space["model"][1]).__name__ == "SCBNorm"
    assert type(space["layer"]).__name__ == "UCBNorm"


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (ROOT / target).exists(), target
