"""A process that works through a plan; several of them share it by claiming runs."""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from types import FrameType

from cbnorm.errors import CbnormError
from cbnorm.runs.plan import Planned
from cbnorm.runs.store import Store

_POLL = 2.0


def work(planned: Sequence[Planned], store: Store, parent: int, again: Sequence[str]) -> None:
    """Execute every run of a plan that no other process has, until all have ended.

    Args:
        planned: The runs, in the order of preference.
        store: Where they live.
        parent: Process that ordered the work; when it is gone, this one stops.
        again: Ids of runs to train anew, once.
    """
    threading.Thread(target=_stop_when_orphaned, args=(parent,), daemon=True).start()
    signal.signal(signal.SIGTERM, _stop)
    from cbnorm.runs.execute import execute

    pending = list(planned)
    refused: CbnormError | None = None
    while pending:
        waiting = []
        for item in pending:
            try:
                if execute(item.config, store, again=item.id in again) is None:
                    waiting.append(item)
            except CbnormError as error:
                refused = error
                print(f"{item.row} seed {item.config.seed}: {error}", file=sys.stderr, flush=True)
            except KeyboardInterrupt:
                sys.exit(130)
            except Exception:  # noqa: BLE001  (nothing may end a worker without a trace)
                traceback.print_exc()
                sys.exit(1)
        # Another process trains what is left: wait for it, or take over when it dies.
        if waiting:
            time.sleep(_POLL)
        pending = [item for item in waiting if store.status(item.id) is None]
    sys.exit(1 if refused else 0)


def _stop(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(143)


def _stop_when_orphaned(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
