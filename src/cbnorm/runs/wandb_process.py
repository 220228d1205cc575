"""Starting the process that tells Weights & Biases of a run, and never waiting for it too long."""

import json
import netrc
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from cbnorm.errors import CbnormError
from cbnorm.runs.interruption import requested

_MODES = ("online", "offline", "disabled")
#: Servers of W&B itself; another one is named by WANDB_BASE_URL.
_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")
#: Who is told, and how the network is reached. All else follows from the run, whatever the environment says.
_KEPT = frozenset(
    "WANDB_" + name
    for name in (
        "API_KEY",
        "BASE_URL",
        "ENTITY",
        "IDENTITY_TOKEN_FILE",
        "CREDENTIALS_FILE",
        "CONFIG_DIR",
        "CACHE_DIR",
        "DATA_DIR",
        "HTTP_TIMEOUT",
        "INSECURE_DISABLE_SSL",
        "X_EXTRA_HTTP_HEADERS",
    )
)
#: Seconds that the end of a run may take in W&B, and those left to it when the run was asked to stop.
PATIENCE, HURRY = 60.0, 5.0


def wandb_mode() -> str:
    """``WANDB_MODE`` when set; else online when there is a key, offline otherwise: never a prompt.

    Raises:
        CbnormError: ``WANDB_MODE`` is none of the modes.
    """
    chosen = os.environ.get("WANDB_MODE")
    if chosen:
        if chosen not in _MODES:
            raise CbnormError(f"WANDB_MODE={chosen} is unknown: choose {', '.join(_MODES)}, or unset it")
        return chosen
    return "online" if has_key() else "offline"


def has_key() -> bool:
    """Whether W&B would find a key without asking: in the environment, or in a netrc file."""
    if any(os.environ.get(name) for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")):
        return True
    base = os.environ.get("WANDB_BASE_URL")
    hosts = (urlsplit(base).netloc,) if base else _HOSTS
    try:
        entries = netrc.netrc(os.environ.get("NETRC") or Path.home() / ".netrc")
    except (OSError, RuntimeError, netrc.NetrcParseError):
        return False
    return any(entries.hosts.get(host) for host in hosts)


class Publisher:
    """The process that tells W&B of one run; its failures are lines, never exceptions.

    Args:
        folder: The run's folder.
        mode: ``online`` or ``offline``.
        project: Name of the W&B project.
    """

    def __init__(self, folder: Path, mode: str, project: str) -> None:
        self._job = json.dumps({"folder": str(folder), "mode": mode, "project": project})
        self._process: subprocess.Popen[str] | None = None
        self._problem: str | None = None

    @property
    def started(self) -> bool:
        """Whether it was started, be it in vain."""
        return self._process is not None or self._problem is not None

    def start(self) -> None:
        """Start it, once."""
        if self.started:
            return
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "cbnorm.runs.wandb_worker", self._job],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                errors="replace",
                env=_environment(),
                # Ctrl-C is for the training, which ends this process by closing its input.
                process_group=0,
            )
        except OSError as error:
            self._problem = f"its process did not start: {error.strerror or error}"

    def finish(self, patience: float = PATIENCE) -> tuple[str | None, str | None]:
        """Say that the run is over, and wait a while.

        Returns:
            The address of the run's page, if there is one, and what went wrong, if something did.
        """
        self.start()
        if self._process is None:
            return None, self._problem
        deadline = time.monotonic() + patience
        while True:
            try:
                # Closes its input too.
                answer = (self._process.communicate(timeout=0.2)[0].splitlines() or [""])[-1]
                break
            except subprocess.TimeoutExpired:
                if requested():
                    deadline = min(deadline, time.monotonic() + HURRY)
                    patience = min(patience, HURRY)
                if time.monotonic() > deadline:
                    self.kill()
                    return None, f"no answer within {patience:.0f} s"
        if self._process.returncode:
            return None, answer or f"its process ended with {self._process.returncode}"
        return answer or None, None

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            with suppress(OSError):
                self._process.kill()
            self._process.communicate()


def _environment() -> dict[str, str]:
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.upper().lstrip("_").startswith("WANDB") or key in _KEPT
    }
    # Reports of errors inside W&B would go over the network, offline as well.
    return kept | {"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}
