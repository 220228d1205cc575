"""The process that tells Weights & Biases of one run: ``python -m cbnorm.runs.wandb_worker JOB``.

A process of its own, because what W&B does to the one that it lives in (hooks at exit, a service that waits
for the network without an end) must not reach a training. It reads the run's files, and the end of its
standard input tells it that the training is over.
"""

import json
import select
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from cbnorm.errors import CbnormError
from cbnorm.runs import wandb_content
from cbnorm.runs.files import read_json, read_json_if_there, read_lines, write_json

#: Seconds between two looks at a history that grows.
_POLL = 1.0
#: Seconds for the first answer of a server.
_INIT_TIMEOUT = 20.0


def publish(folder: Path, mode: str, project: str) -> str | None:
    """Tell W&B of a run from its first epoch on, replacing what it was told before.

    Every telling is whole. W&B can't continue a run that was written offline, and what a training that was
    killed had told may go beyond the checkpoint at which it went on.

    Args:
        folder: The run's folder; W&B's files come into ``wandb`` inside.
        mode: ``online`` or ``offline``.
        project: Name of the W&B project.

    Returns:
        Address of the run's page, if there is one.

    Raises:
        CbnormError: The server did not take everything.
    """
    import wandb

    known = read_json_if_there(folder / "record.json") or read_json(folder / "run.json")
    run = wandb.init(
        **wandb_content.header(known),
        id=folder.name,
        project=project,
        dir=folder,
        mode="online" if mode == "online" else "offline",
        resume=None,
        settings=_settings(wandb),
    )
    run.define_metric("epoch", hidden=True)
    run.define_metric("*", step_metric="epoch")
    record = _tell(run, folder)
    run.finish(exit_code=0 if record and record["status"] != "failed" else 1)
    own = Path(run.dir).parent
    _refuse_losses(own)
    _remove_earlier(own)
    if mode == "online" and record is not None:
        note(folder, record, project, run.url)
    return run.url


def _tell(run: Any, folder: Path) -> dict[str, Any] | None:
    """All epochs, those to come included; then test readings and summary, if the run came to an end."""
    told, over = 0, False
    while not over:
        over = bool(select.select([sys.stdin], [], [], _POLL)[0])
        for row in read_lines(folder / "history.jsonl")[told:]:
            told += 1
            run.log(wandb_content.epoch_row(row), step=told)
    record = read_json_if_there(folder / "record.json")
    if record is None:
        run.summary["status"] = "unfinished"
        return None
    for step, row in enumerate(wandb_content.reading_rows(record), told + 1):
        run.log(row, step=step)
    run.summary.update(wandb_content.summary(record))
    return record


def _settings(wandb: Any) -> Any:
    """Nothing but what the run's files say: no console, code, commits, machine, arguments or environment."""
    wanted = {
        "console": "off",
        "save_code": False,
        "disable_code": True,
        "disable_git": True,
        "disable_job_creation": True,
        "x_disable_meta": True,
        "x_disable_stats": True,
        "x_disable_machine_info": True,
        "x_save_requirements": False,
        "host": "",
        "program": "",
        "username": "",
        "email": "",
        "label_disable": True,
        "silent": True,
        "symlink": False,
        "init_timeout": _INIT_TIMEOUT,
    }
    known = wandb.Settings.model_fields
    return wandb.Settings(**{key: value for key, value in wanted.items() if key in known})


def _refuse_losses(own: Path) -> None:
    """W&B ends a run as if all were well when the server refused what it sent; only its log tells."""
    with suppress(OSError):
        if b"filestream: fatal error" in (own / "logs/debug-internal.log").read_bytes():
            raise CbnormError("the server refused the metrics")


def _remove_earlier(own: Path) -> None:
    """Only the last telling is whole."""
    for path in own.parent.glob(f"*run-*-{own.name.rpartition('-')[2]}"):
        if path != own and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)


def note(folder: Path, record: dict[str, Any], project: str, url: str | None) -> None:
    """Keep beside the run what was sent where, so that it is not sent again."""
    sent = wandb_content.fingerprint(record, read_lines(folder / "history.jsonl"))
    where = {"project": project, "place": wandb_content.place(), "url": url}
    write_json(folder / "wandb/sent.json", {"sent": sent} | where, durable=False)


def main(words: list[str]) -> int:
    """Carry out one job; the last line on standard output is the address, or what went wrong."""
    job = json.loads(words[0])
    try:
        url = publish(Path(job["folder"]), job["mode"], job["project"])
    except BaseException as error:  # noqa: BLE001  (whatever W&B raises, its caller wants one line)
        print((str(error).strip().splitlines() or [type(error).__name__])[0][:300], flush=True)
        return 1
    print(url or "", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
