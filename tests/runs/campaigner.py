"""A process that has imported everything and forks a child per campaign, so that a session takes seconds.

Reads per line from stdin the words, and what a run's start and saving take on this machine now; the child
prints what the campaign prints, after its process id. Workers are forked too, imports cost nothing and
checkpoints are often, so that limits of seconds mean something.
"""

import json
import multiprocessing
import os
import sys

import cbnorm._torchvision  # noqa: F401

from cbnorm import cli
from cbnorm.config.compose import compose_run
from cbnorm.runs import campaign, resume, speed, sweep
from cbnorm.runs.execute import execute  # noqa: F401  (what is costly to import, before the first fork)


def main() -> None:
    """Answer until stdin ends."""
    campaign.IMPORTS = 0.2
    speed.GUESSED_SPEED = {"cpu": 1000.0}
    resume.INTERVAL = speed.CHECKPOINT_INTERVAL = campaign.CHECKPOINT_INTERVAL = 0.3
    sweep._POLL = 0.05
    fork = multiprocessing.get_context("fork")
    sweep.multiprocessing.get_context = lambda _method: fork
    compose_run(["budget=smoke"])
    print("ready", flush=True)
    for line in sys.stdin:
        words, speed.GUESSED_START, campaign.SAVING = json.loads(line)
        child = os.fork()
        if child == 0:
            status = 99
            try:
                status = cli.main(words)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        print(child, flush=True)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(f"exit {status}", flush=True)


if __name__ == "__main__":
    main()
