"""Every command of cbnorm that the README and docs/ show is carried out, on a few images where it trains.

What can't be: launchers of other packages (tests/runs/test_launchers.py), fetching what is not here, sending
runs to Weights & Biases (tests/runs/test_wandb_online.py), and a plugin's commands (tests/plugins).
"""

import json
import re
import runpy
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cbnorm.cli import main
from cbnorm.config.compose import compose_run
from cbnorm.data import overview, weights
from cbnorm.runs.campaign_commands import read as read_campaign
from cbnorm.runs.identity import run_id
from cbnorm.runs.plan import choose_rows, plan

ROOT = Path(__file__).parents[1]
COMMANDS = runpy.run_path(str(ROOT / "tests" / "test_docs.py"))["commands"]("cbnorm")
#: Digits in place of the images, and few of them: what is tested is that the words lead to a run.
FEW = ["dataset.train_images=40", "dataset.val_images=20", "dataset.test_images=20", "trainer.batch_size=10"]
FEW += ["trainer.precision=fp32"]
PROXIES = {"mnist_svhn": "digits_negatives", "mnist_usps": "digits_negatives"}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a store of two runs and some published records, in which commands are carried out."""
    folder = tmp_path_factory.mktemp("desk")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("WANDB_MODE", "offline")
        for path in (ROOT / "results" / "records").glob("*/record.json"):
            record = json.loads(path.read_text(encoding="utf8"))
            place = record["experiment"], record["config"]["dataset"]["name"]
            norm = record["config"]["norm"]["name"]
            if place == ("table5", "cifar10") and norm in {"bn", "scb", "ucb"}:
                shutil.copytree(path.parent, folder / "results" / "records" / path.parent.name)
        words = ["budget=smoke", "experiment=table5", "logger=wandb", *FEW]
        for norm in ("bn", "scb"):
            assert main(["train", f"norm={norm}", *words]) == 0
        assert main(["train", "norm=ucb", *words, "store=other"]) == 0
        yield folder


def small(words: list[str], experiment: str = "") -> list[str]:
    """The words of a training command, for digits and little work."""
    experiment = experiment or next((w.partition("=")[2] for w in words if w.startswith("experiment=")), "")
    kept = [word for word in words if not re.match(r"(dataset|budget)=", word)]
    named = next((w.partition("=")[2] for w in words if w.startswith("dataset=")), "")
    proxy = PROXIES.get(named, "" if experiment or not named else "digits")
    given = {word.partition("=")[0] for word in kept}
    few = [word for word in FEW if word.partition("=")[0] not in given]
    if experiment == "dcgan":  # judges as many samples as there are test images, and is small by itself
        few = []
    options = [word for word in kept if word.startswith("-")]
    kept = [word for word in kept if word not in options]
    return [*options, "budget=smoke", *([f"dataset={proxy}"] if proxy else []), *kept, *few]


@pytest.mark.parametrize("command", [command for command in COMMANDS if " hydra/launcher=" not in command])
def test_every_command_works(
    command: str, desk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(desk)
    _, verb, *words = shlex.split(command)
    words = {"train": trained, "reproduce": reproduced, "campaign": planned}.get(verb, asked)(verb, words)
    assert main([verb, *words]) == 0, capsys.readouterr().err
    told = capsys.readouterr()
    assert told.out
    assert "Traceback" not in told.out + told.err


def trained(verb: str, words: list[str]) -> list[str]:
    if "--cfg" in words:
        return words
    words = [word.replace("=ID", f"={first_run()}") for word in words]
    return small(words)


def first_run() -> str:
    """The run of batch normalization that the desk has."""
    words = small(["norm=bn"])
    main(["train", *words])
    return run_id(compose_run(words))


def reproduced(verb: str, words: list[str]) -> list[str]:
    """One row of those that are asked for, and one seed."""
    experiment, *others = words
    options = dict(word.split("=", 1) for word in others if re.match("(rows|seeds|jobs)=", word))
    others = [word for word in others if word.partition("=")[0] not in options]
    rows = choose_rows(experiment, options.get("rows", "rows").split(","))
    return [experiment, *small(others, experiment), f"rows={rows[0].label}", "seeds=0", "jobs=1"]


def planned(verb: str, words: list[str]) -> list[str]:
    """A campaign is planned as it is, and begins with nothing left to do."""
    request = read_campaign(words)
    first = request.experiments[0]
    row = choose_rows(first)[0].label
    assert plan(first, request.overrides, labels=[row])
    limit = [word for word in words if word.startswith("time_limit=")]
    return [first, *small(["dry=true", f"rows={row}", "seeds=0", *limit])]


def asked(verb: str, words: list[str]) -> list[str]:
    """Commands that train nothing."""
    if verb == "data" and words[0] == "fetch":
        states = {
            known["key"]: known["state"] for known in (*overview.describe_all(), *weights.describe_all())
        }
        if states[words[1]] not in {"ready", "built-in"}:
            pytest.skip(f"{words[1]} is not here, and tests fetch nothing")
    if verb == "partitions":
        return [word for word in words if not word.startswith("dataset=")] + ["budget=smoke", *FEW[:3]]
    if verb == "wandb":
        runs = iter(sorted(path.parent.name for path in Path("runs").glob("*/record.json")))
        words = [next(runs)[:6] if re.fullmatch(r"[0-9a-f]{4}", word) else word for word in words]
        return [*words, *(["dry=true"] if "dry=true" not in words else [])]
    return [word.replace("/mnt/other/runs", "other") for word in words]
