"""A process that works through a plan; several of them share it by claiming runs."""

import os
import sys
import time
from collections.abc import Sequence

from cbnorm.errors import CbnormError, unexpected
from cbnorm.output import make_lasting
from cbnorm.runs.interruption import RunInterruptedError, end_with, requested, stop_signals
from cbnorm.runs.limit import Limit
from cbnorm.runs.plan import Planned
from cbnorm.runs.store import Store

_POLL = 2.0


def work(planned: Sequence[Planned], store: Store, parent: int, limit: Limit | None = None) -> None:
    """Execute every run of a plan that no other process has, until all have ended; then exit.

    The exit status is 0, 1 when runs failed, 2 when no run can work (bad data, a full disk), 70 for an error
    that nobody thought of, or 75 when asked to stop.

    Args:
        planned: The runs, in the order of preference.
        store: Where they live.
        parent: Process that ordered the work; when it is gone, this one stops.
        limit: Runs that can't save in time are not started.
    """
    make_lasting()
    end_with(parent)
    try:
        with stop_signals():
            failed = _work(planned, store, limit)
    except CbnormError as error:
        if not isinstance(error, RunInterruptedError):
            print(f"cbnorm: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
    except Exception as error:
        print(f"cbnorm: {unexpected(error)}", file=sys.stderr, flush=True)
        if os.environ.get("CBNORM_DEBUG") == "1":
            raise
        sys.exit(os.EX_SOFTWARE)
    sys.exit(1 if failed else 0)


def _work(planned: Sequence[Planned], store: Store, limit: Limit | None = None) -> bool:
    from cbnorm.runs.execute import RunFailedError, execute

    failed = False
    pending = list(planned)
    while pending:
        waiting = []
        for item in pending:
            if requested():
                raise RunInterruptedError("stopped between runs")
            if limit is not None and not limit.allows(item.id):
                continue
            try:
                if execute(item.config, store) is None:
                    waiting.append(item)
            except RunFailedError as error:
                failed = True
                print(f"{item.row} seed {item.config.seed}: {error}", file=sys.stderr, flush=True)
        # Another process trains what is left: wait for it, or take over when it dies.
        if waiting:
            time.sleep(_POLL)
        pending = [item for item in waiting if store.status(item.id) is None]
    return failed
