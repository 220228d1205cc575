"""The command line: one word chooses the command, the rest are words of the form key=value or --key value."""

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import cast

import cbnorm
from cbnorm.errors import CbnormError, unexpected
from cbnorm.output import make_lasting
from cbnorm.spelling import nearest

USAGE = """cbnorm: cluster-based normalization, and a reproduction of arXiv 2403.16798v2

  cbnorm train [GROUP=NAME] [GROUP.KEY=VALUE] ...     one run; -m sweeps over commas (Hydra's options work)
  cbnorm reproduce TABLE [budget=small] [seeds=0..4]  train what is missing of a table, then collect it
                   [rows=controls|all|BN-1,...] [jobs=2|auto] [again=true] [dataset=...] [any other override]
  cbnorm campaign TABLE[,TABLE...] [seeds=0..4] [time_limit=540] [dry=true] [rows=...] [jobs=2|auto]
                   [any override]    fills what is missing, seed by seed, stops in time and says what remains
  cbnorm collect TABLE|all [store=runs,...] [out=FOLDER] [dataset=...] [budget=...] [protocol=...]
  cbnorm explain TABLE DATASET ROW [MOMENT] | CLAIM [store=runs,...] [budget=...] [protocol=...]
  cbnorm publish [TABLE …] [store=runs] [to=results] [force=true]    records and their tables, as evidence
  cbnorm look TABLE [rows=BN-1,...] [seeds=0..4] [dataset=...] [budget=...] [protocol=...] [store=runs]
                   [out=results/figures/looks] [images=2000]
                   at what trained networks see: the first seed of every row, or these seeds
  cbnorm figures [store=results/records] [out=results/figures] [looks=results/figures/looks]    PNG, SVG, CSV
  cbnorm report [store=results/records] [out=results/report.html] [looks=...]    all evidence as one page
  cbnorm runs list | show ID | diff ID ID | rm ID ... [force=true] | merge FOLDER    all take [store=runs]
  cbnorm wandb sync [ID ...] [store=runs] [project=...] [all=true] [dry=true]
                   send runs trained with logger=wandb (or those named, or all) that W&B does not have yet
  cbnorm partitions fit | show partition=gmm [dataset=...] [out=FILE]    clusters of a run's images
  cbnorm partitions compare partition=gmm,kmeans | partition=gmm against=ids.csv    how much two agree
  cbnorm data list | fetch NAME                       data sets and weights: what is here, and fetching

  --version, --help, --debug (shows the traceback of an error)
  What a command takes itself may be written --key value, too: --seeds 0..4, --time-limit 540, --dry-run

Examples:
  cbnorm reproduce table5 budget=smoke
  cbnorm train norm=ucb dataset=cifar10 optimizer.lr=0.005
  cbnorm train -m norm=bn,mn,scb,scb_base,ucb optimizer.lr=0.001,0.005
  cbnorm train --cfg job --resolve                    every option with its value
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 on success, 1 when some runs failed, 2 when what was asked is refused, 70 for an error that nobody
        thought of, 75 when a signal (Ctrl-C is one) stopped training, which is saved first, 130 when Ctrl-C
        comes where nothing trains, or a second time. After 75 and 130 the same command goes on.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if "--debug" in words:
        # Workers read it too.
        os.environ["CBNORM_DEBUG"] = "1"
    make_lasting()
    try:
        return _answer([word for word in words if word != "--debug"])
    except KeyboardInterrupt:
        print("cbnorm: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except Exception as error:
        if os.environ.get("CBNORM_DEBUG") == "1":
            raise
        known = isinstance(error, CbnormError)
        print(f"cbnorm: {error if known else unexpected(error)}", file=sys.stderr)
        return error.exit_code if isinstance(error, CbnormError) else os.EX_SOFTWARE


def _answer(words: list[str]) -> int:
    status = _carry_out(words)
    print(end="", flush=True)
    return status


def _carry_out(words: list[str]) -> int:
    if not words or words[0] in {"-h", "--help", "help"}:
        print(USAGE, end="")
        return 0
    if words[0] == "--version":
        print(f"cbnorm {cbnorm.__version__}")
        return 0
    command = _command(words[0])
    if words[0] != "train" and {"-h", "--help"} & set(words[1:]):  # Hydra has its own
        print(_usage(words[0]), end="")
        return 0
    return command(words[1:])


#: What answers each command. Imported when asked for, so that none waits for what another needs.
COMMANDS = {
    "train": "cbnorm.train:train",
    "reproduce": "cbnorm.report.reproduce:reproduce",
    "campaign": "cbnorm.runs.campaign_commands:campaign",
    "collect": "cbnorm.report.commands:collect_command",
    "explain": "cbnorm.report.commands:explain_command",
    "publish": "cbnorm.report.commands:publish_command",
    "look": "cbnorm.look:look_command",
    "figures": "cbnorm.report.front:figures_command",
    "report": "cbnorm.report.front:report_command",
    "runs": "cbnorm.runs.commands:runs",
    "partitions": "cbnorm.runs.partition_commands:partitions",
    "wandb": "cbnorm.runs.wandb_sync:wandb",
    "data": "cbnorm.data.commands:data_command",
}


def _command(name: str) -> Callable[[list[str]], int]:
    if name not in COMMANDS:
        raise CbnormError(f"unknown command '{name}': {nearest(name, COMMANDS)}")
    module, function = COMMANDS[name].split(":")
    return cast("Callable[[list[str]], int]", getattr(importlib.import_module(module), function))


def _usage(name: str) -> str:
    """The lines of :data:`USAGE` that are about one command."""
    lines = USAGE.split("Examples:", maxsplit=1)[0].splitlines()
    begin = next(k for k, line in enumerate(lines) if line.startswith(f"  cbnorm {name} "))
    end = next(k for k in range(begin + 1, len(lines)) if not lines[k].startswith("     "))
    return "\n".join(lines[begin:end]) + "\nMore: cbnorm --help, and docs/commands.md\n"


if __name__ == "__main__":
    sys.exit(main())
