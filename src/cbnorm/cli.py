"""The command line: one word chooses the command, the rest are words of the form key=value."""

import io
import os
import sys
from collections.abc import Callable, Sequence

import cbnorm
from cbnorm.errors import CbnormError, unexpected

USAGE = """cbnorm: cluster-based normalization, and a reproduction of arXiv 2403.16798v2

  cbnorm train [GROUP=NAME] [GROUP.KEY=VALUE] ...     one run; -m sweeps over commas (Hydra's options work)
  cbnorm reproduce TABLE [budget=small] [seeds=0..4]  train what is missing of a table, then collect it
                   [rows=controls|all|BN-1,...] [jobs=2|auto] [again=true] [dataset=...] [any other override]
  cbnorm campaign TABLE[,TABLE...] [seeds=0..4] [time_limit=540] [dry=true] [rows=...] [jobs=2|auto]
                   [any override]    fills what is missing, seed by seed, stops in time and says what remains
  cbnorm collect TABLE|all [store=runs,...] [out=FOLDER] [dataset=...] [budget=...] [protocol=...]
  cbnorm explain TABLE DATASET ROW [MOMENT] | CLAIM [store=runs,...] [budget=...] [protocol=...]
  cbnorm publish [TABLE …] [store=runs] [to=results] [force=true]    records and their tables, as evidence
  cbnorm look TABLE [store=runs] [out=results/figures/looks] [images=2000]    at what trained networks see
  cbnorm figures [store=results/records] [out=results/figures]     figures as PNG and SVG, with their numbers
  cbnorm report [store=results/records] [out=results/report.html]  all evidence as one page of HTML
  cbnorm runs list | show ID | diff ID ID | rm ID ... [force=true] | merge FOLDER    all take [store=runs]
  cbnorm wandb sync [ID ...] [project=...] [dry=true] send runs to Weights & Biases, as far as it lacks them
  cbnorm partitions fit | show | compare partition=gmm [dataset=...] [out=FILE]    clusters of a run's images
  cbnorm data list | fetch NAME                       data sets and weights: what is here, and fetching

  --version, --help, --debug (shows the traceback of an error)

Examples:
  cbnorm reproduce table5 budget=smoke
  cbnorm train norm=ucb dataset=cifar10 optimizer.lr=0.005
  cbnorm train -m norm=bn,mn,scb,scb_base,ucb optimizer.lr=0.001,0.005
  cbnorm train --cfg job                              every option with its value
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 on success, 1 when some runs failed, 2 when what was asked is refused, 70 for an error that nobody
        thought of, 75 when interrupted: the same command goes on then.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if "--debug" in words:
        # Workers read it too.
        os.environ["CBNORM_DEBUG"] = "1"
    _print_anything()
    try:
        return _answer([word for word in words if word != "--debug"])
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has enough; nothing may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
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
    if not words or words[0] in {"-h", "--help", "help"}:
        print(USAGE, end="")
        return 0
    if words[0] == "--version":
        print(f"cbnorm {cbnorm.__version__}")
        return 0
    return _command(words[0])(words[1:])


def _print_anything() -> None:
    """Let names of files that are no text, and signs that a terminal lacks, be printed as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _command(name: str) -> Callable[[list[str]], int]:
    # Each command imports what it needs, so that none waits for what another needs.
    commands = {
        "train": _train,
        "reproduce": _reproduce,
        "campaign": _campaign,
        "collect": _collect,
        "explain": _explain,
        "publish": _publish,
        "look": _look,
        "figures": _figures,
        "report": _report,
        "runs": _runs,
        "partitions": _partitions,
        "wandb": _wandb,
        "data": _data,
    }
    if name not in commands:
        from cbnorm.spelling import nearest

        raise CbnormError(f"unknown command '{name}': {nearest(name, commands)}")
    return commands[name]


def _train(words: list[str]) -> int:
    from cbnorm.train import train

    return train(words)


def _reproduce(words: list[str]) -> int:
    from cbnorm.report.reproduce import reproduce

    return reproduce(words)


def _campaign(words: list[str]) -> int:
    from cbnorm.runs.campaign_commands import campaign

    return campaign(words)


def _collect(words: list[str]) -> int:
    from cbnorm.report.commands import collect_command

    return collect_command(words)


def _explain(words: list[str]) -> int:
    from cbnorm.report.commands import explain_command

    return explain_command(words)


def _publish(words: list[str]) -> int:
    from cbnorm.report.commands import publish_command

    return publish_command(words)


def _look(words: list[str]) -> int:
    from cbnorm.look import look_command

    return look_command(words)


def _figures(words: list[str]) -> int:
    from cbnorm.report.front import figures_command

    return figures_command(words)


def _report(words: list[str]) -> int:
    from cbnorm.report.front import report_command

    return report_command(words)


def _runs(words: list[str]) -> int:
    from cbnorm.runs.commands import runs

    return runs(words)


def _wandb(words: list[str]) -> int:
    from cbnorm.runs.wandb_sync import wandb

    return wandb(words)


def _partitions(words: list[str]) -> int:
    from cbnorm.runs.partition_commands import partitions

    return partitions(words)


def _data(words: list[str]) -> int:
    from cbnorm.data import catalog, weights
    from cbnorm.data.overview import describe_all, fetch

    if words == ["list"]:
        found = describe_all()
        width = max(len(known["name"]) for known in found)
        for known in found:
            print(f"{known['key']:<18} {known['name']:<{width}} {known['state']:<10} {known['folder'] or ''}")
            if known["problem"]:
                print(f"  {known['problem']}")
        for file in weights.describe_all():
            where = file["problem"] or file["path"]
            print(f"{file['key']:<18} weights: {file['name']}, {file['state']}: {where}")
        return 0
    if len(words) == 2 and words[0] == "fetch" and words[1] in weights.WEIGHTS:
        print(f"{words[1]} is verified in {weights.ensure(weights.find(words[1]))}")
        return 0
    if len(words) == 2 and words[0] == "fetch":
        catalog.find(words[1])
        print(fetch(words[1]))
        return 0
    raise CbnormError("write cbnorm data list, or cbnorm data fetch DATASET")


if __name__ == "__main__":
    sys.exit(main())
