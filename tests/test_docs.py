"""Every command that the README and the pages of docs/ show is understood; every link leads somewhere."""

import re
import shlex
from pathlib import Path

import pytest

from cbnorm.cli import USAGE, main
from cbnorm.config.compose import compose_run, compose_sweep_params
from cbnorm.runs.campaign import plan_campaign
from cbnorm.runs.campaign_commands import read as read_campaign
from cbnorm.runs.plan import expand, find_experiment, parse_seeds, plan

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)


def commands(program: str) -> list[str]:
    """Lines of code blocks that begin with a program, without comments and what stands in a second column."""
    found: dict[str, None] = {}
    # The commands of extend.md need the package that it describes; tests/plugins runs them.
    for page in (page for page in PAGES if page.name != "extend.md"):
        for block in BLOCK.findall(page.read_text(encoding="utf8")):
            for line in block.splitlines():
                if re.match(rf"{program} ", line):
                    found[re.split(r" #|  +", line)[0].strip()] = None
    return list(found)


@pytest.mark.parametrize("command", commands("make"))
def test_make_targets_exist(command: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf8")
    _, target, *settings = command.split()
    assert re.search(rf"^{re.escape(target)}:.*##", makefile, re.MULTILINE)
    assert all(
        re.search(rf"^{setting.partition('=')[0]} *\?=", makefile, re.MULTILINE) for setting in settings
    )


@pytest.mark.parametrize("command", commands("cbnorm"))
def test_cbnorm_commands_are_understood(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, verb, *words = shlex.split(command)
    assert f"  cbnorm {verb} " in USAGE
    if verb == "train":
        # Launchers are Hydra's plugins, each an extra of ours; the words for them are theirs to check.
        overrides = [
            word.replace("=ID", "=0123456789ab")
            for word in words
            if "=" in word and not re.match(r"-|\+?hydra[/.]launcher", word)
        ]
        for combination in expand(overrides, compose_sweep_params([]) if "-m" in words else None):
            assert compose_run(combination).norm.name
    elif verb == "campaign":
        asked = read_campaign(words)
        assert plan_campaign(asked.experiments, asked.overrides, seeds=asked.seeds, labels=asked.labels)
    elif verb == "reproduce":
        own = dict(word.split("=", 1) for word in words[1:] if re.match("(seeds|rows|jobs|again)=", word))
        overrides = [word for word in words[1:] if word.partition("=")[0] not in own]
        labels = own["rows"].split(",") if "rows" in own else []
        seeds = parse_seeds(own.get("seeds", "0"))
        assert plan(find_experiment(words[0]), overrides, seeds=seeds, labels=labels)
    elif verb == "explain" and "store=results/records" in words:
        monkeypatch.chdir(ROOT)
        assert main([verb, *words]) == 0
        assert "0 runs" not in capsys.readouterr().out
    elif verb in {"figures", "report", "look"}:
        keys = {word.partition("=")[0] for word in words if "=" in word}
        known = {"store", "out"} | ({"images", "rows", "seeds", "dataset"} if verb == "look" else set())
        assert keys <= known
        assert [find_experiment(word) for word in words if "=" not in word] == words[: verb == "look"]


def test_the_library_lines_run() -> None:
    import torch
    from torch import nn

    block = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert block is not None
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    space = {"model": model, "images": torch.randn(2, 3, 16, 16), "ids": torch.tensor([0, -1])}
    exec(block.group(1), space)
    assert space["outputs"].shape == (2, 8, 14, 14)
    assert type(space["model"][1]).__name__ == "SCBNorm"
    assert type(space["layer"]).__name__ == "UCBNorm"


def test_the_lines_of_the_five_minute_path_run() -> None:
    page = (ROOT / "docs" / "start.md").read_text(encoding="utf8")
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    space: dict[str, object] = {}
    exec(block, space)
    assert space["outputs"].shape == (2, 8, 14, 14)
    assert type(space["model"][1]).__name__ == "SCBNorm"


def test_the_site_shows_every_page() -> None:
    index = (ROOT / "docs" / "index.rst").read_text(encoding="utf8")
    listed = set(re.findall(r"^   ([\w/]+)$", index, re.MULTILINE))
    pages = {
        path.relative_to(ROOT / "docs").with_suffix("").as_posix()
        for path in (ROOT / "docs").rglob("*.*")
        if path.suffix in {".md", ".rst"}
    }
    assert pages == listed | {"index", "start"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf8")):
        assert (page.parent / target).exists(), target
