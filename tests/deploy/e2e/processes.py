"""The processes of the functions, as /proc shows them: whose they are, and whether they are at work."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

PROC = Path("/proc")


def of_session(session: int) -> list[int]:
    """The processes of a session, by their ids."""
    found = []
    for entry in PROC.iterdir():
        if entry.name.isdigit() and _session(entry) == session:
            found.append(int(entry.name))
    return found


def _session(entry: Path) -> int | None:
    try:
        # After the name in parentheses, which may hold anything: state, parent, group, session.
        fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[3])
    except (OSError, IndexError, ValueError):
        return None


def function_of(pid: int) -> str | None:
    """The function that a process serves, by its deployed name; None if it serves none or is gone."""
    try:
        environment = (PROC / str(pid) / "environ").read_bytes().split(b"\0")
        program = os.readlink(PROC / str(pid) / "exe")
    except OSError:
        return None
    if not program.endswith("/bootstrap"):
        return None
    prefix = b"AWS_LAMBDA_FUNCTION_NAME="
    names = [value[len(prefix) :] for value in environment if value.startswith(prefix)]
    return names[0].decode() if names else None


def worked(pid: int) -> int | None:
    """Nanoseconds of processor time that its threads have had; None if it is gone.

    A function that waits for its next event uses none.
    """
    total = 0
    try:
        for thread in (PROC / str(pid) / "task").iterdir():
            total += int((thread / "schedstat").read_text().split()[0])
    except (OSError, IndexError, ValueError):
        return None
    return total


def kill(pid: int) -> None:
    """Ends one process at once, by its id."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
