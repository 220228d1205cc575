"""Every command understands its options in the same spellings, and refuses what is none of them."""

import subprocess
import sys
from pathlib import Path

import pytest

from cbnorm.cli import main
from cbnorm.errors import CbnormError
from cbnorm.words import flag, path_of, split, take

KEYS, FLAGS = ["store", "seeds", "time_limit"], ["dry", "force"]


@pytest.mark.parametrize(
    "words",
    [
        "table5 seeds=0..1 time_limit=540 dry=true store=x",
        "table5 --seeds 0..1 --time-limit 540 --dry-run --store x",
        "--dry --seeds=0..1 --time-limit=540 --store=x table5",
        "--dry-run TRUE --time_limit 540 table5 seeds=7 seeds=0..1 store=x",
    ],
)
def test_options_are_the_same_in_every_spelling(words: str) -> None:
    plain, options = split(words.split(), "campaign", KEYS, FLAGS)
    assert plain == ["table5"]
    assert flag(options, "dry")
    assert not flag(options, "force")
    assert {key: options[key] for key in KEYS} == {"store": "x", "seeds": "0..1", "time_limit": "540"}


def test_other_words_keep_their_order_and_their_form() -> None:
    words = ["table5", "budget=smoke", "--store", "x", "+norm.eps=1", "rows=a=b", "~task", "hydra/launcher=y"]
    options, others = take(words, "reproduce", ["rows"])
    assert options == {"rows": "a=b"}
    assert others == ["table5", "budget=smoke", "store=x", "+norm.eps=1", "~task", "hydra/launcher=y"]


def test_a_path_with_an_equals_sign_is_no_option() -> None:
    assert split(["merge", "/runs/lr=1/seed=0"], "runs", KEYS) == (["merge", "/runs/lr=1/seed=0"], {})


@pytest.mark.parametrize(
    ("words", "told"),
    {
        ("--sede", "3"): "'--sede' means nothing to runs: did you mean 'seeds'?",
        ("-dry",): "'-dry' means nothing to runs: did you mean 'dry'?",
        (
            "colour=red",
        ): "'colour=red' means nothing to runs: choose one of: dry, force, seeds, store, time_limit",
        ("--time-limit",): "--time-limit needs a value: write time_limit=VALUE",
        ("--store", "--dry-run"): "--store needs a value: write store=VALUE",
    }.items(),
)
def test_what_is_no_option_is_told_with_the_nearest(words: tuple[str, ...], told: str) -> None:
    with pytest.raises(CbnormError) as refused:
        split(words, "runs", KEYS, FLAGS)
    assert str(refused.value) == told


@pytest.mark.parametrize("text", ["", "yes", "1"])
def test_flags_are_true_or_false(text: str) -> None:
    assert flag({"force": "FALSE"}, "force") is False
    with pytest.raises(CbnormError, match=f"^force={text} must be true or false$"):
        flag({"force": text}, "force")


COMMANDS = {
    "campaign table5 --sedes 0..1": "did you mean 'seeds'?",
    "reproduce table5 --sedes 0..1": "did you mean 'seeds'?",
    "reproduce table5 --again perhaps": "unknown experiment 'perhaps'",
    "reproduce dataset=cifar10 table5 table6": "that is 2 tables: name one, or write cbnorm campaign table5,",
    "reproduce table5 dry=true": "'dry=true' means nothing to reproduce: it is a word of campaign",
    "reproduce table5 time_limit=540": "it is a word of campaign",
    "campaign table5 again=true": "it is a word of reproduce",
    "reproduce table5 experiment=table7": "'experiment=table7' names another table than table5: name one",
    "train -m norm=bn,mn --cfg job": "--cfg and --info tell of one run",
    "reproduce table5 again=perhaps budget=smoke": "again=perhaps must be true or false",
    "collect all --stroe x": "did you mean 'store'?",
    "explain c10-mean --budegt=full": "did you mean 'budget'?",
    "publish --froce": "did you mean 'force'?",
    "publish force=perhaps": "force=perhaps must be true or false",
    "runs list --stroe x": "did you mean 'store'?",
    "runs rm 0123 force=perhaps": "force=perhaps must be true or false",
    "wandb sync --dry-rum": "did you mean 'dry'?",
    "wandb sync all=perhaps": "all=perhaps must be true or false",
    "figures --loks x": "did you mean 'looks'?",
}


def test_commands_refuse_options_in_one_line_without_torch() -> None:
    code = (
        "import sys; from cbnorm.cli import main\n"
        "for words in sys.argv[1:]:\n"
        "    assert main(words.split()) == 2\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, *COMMANDS], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    lines = answer.stderr.splitlines()
    assert len(lines) == len(COMMANDS)
    for line, told in zip(lines, COMMANDS.values(), strict=True):
        assert told in line


@pytest.mark.parametrize(
    "words",
    [
        "publish --force --store nowhere",
        "publish force=True store=nowhere",
        "runs rm 0123 --force --store nowhere",
        "runs rm 0123 force=TRUE --store=nowhere",
        "wandb sync --dry-run --store nowhere",
        "wandb sync dry=True --all true store=nowhere",
        "collect all --store nowhere",
        "look table5 --rows BN-1 --store nowhere",
        "figures --store nowhere",
    ],
)
def test_spellings_reach_every_command(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 2
    assert "there is no store nowhere" in capsys.readouterr().err


def test_a_path_is_somewhere_and_may_begin_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert path_of({"out": "~/x"}, "out", "y") == Path("/home/me/x")
    assert path_of({}, "out", "y") == Path("y")
    for text, told in ((" ", "out= names nothing: write out=PATH"), ("~nobody-here/x", "no such user")):
        with pytest.raises(CbnormError, match=told):
            path_of({"out": text}, "out", "y")
