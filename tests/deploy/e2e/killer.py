"""Kills a function's process, by its id, while it is at work."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import processes
from aims import Aim

GLANCE = 0.01
# How long ago a process may have had the processor and still count as at work: a scan waits for its capacity, the others
# for an answer at most.
RECENT = {"scan-segment": 0.7}
RECENT_OF_OTHERS = 0.03
# How long the engine may take to notice.
NOTICE_SECONDS = 2.0


class Killer:
    """Watches the engine's processes from a thread of its own until it has killed as often as it was told."""

    def __init__(self, engine_pid: int, engine_log: Path, aim: Aim) -> None:
        self._session = engine_pid
        self._log = engine_log
        self._log_from = engine_log.stat().st_size
        self._aim = aim
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._hunt, daemon=True)
        # The kills that met an invocation.
        self.hits = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self.hits = self._count()

    def _hunt(self) -> None:
        used: dict[int, int] = {}
        seen_at_work: dict[int, float] = {}
        due: float | None = None
        recent = RECENT.get(self._aim.function, RECENT_OF_OTHERS)
        while not self._stop.wait(GLANCE):
            now = time.monotonic()
            for pid in self._pids(used):
                worked = processes.worked(pid)
                if worked is not None and worked > used.get(pid, worked):
                    seen_at_work[pid] = now
                used[pid] = worked or 0
            at_work = [pid for pid, when in seen_at_work.items() if now - when < recent]
            if at_work and due is None:
                due = now + self._aim.delay
            if at_work and due is not None and now >= due:
                pid = max(at_work, key=lambda one: seen_at_work[one])
                processes.kill(pid)
                seen_at_work.pop(pid)
                if self._noticed() >= self._aim.kills:
                    return

    def _pids(self, known: dict[int, int]) -> list[int]:
        """The function's processes, warm ones and new ones."""
        session = processes.of_session(self._session)
        return [pid for pid in session if pid in known or processes.function_of(pid) == self._aim.deployed]

    def _noticed(self) -> int:
        """Waits a little for the engine to notice; how many kills have met an invocation so far."""
        end = time.monotonic() + NOTICE_SECONDS
        before = self.hits
        while time.monotonic() < end and not self._stop.is_set():
            self.hits = self._count()
            if self.hits > before:
                break
            time.sleep(0.05)
        return self.hits

    def _count(self) -> int:
        """What the engine says of invocations whose process went away under them."""
        with self._log.open("rb") as log:
            log.seek(self._log_from)
            text = log.read().decode(errors="replace")
        name = self._aim.deployed
        during = text.count(f"Lambda {name}: Runtime exited before returning a response")
        starting = text.count(f"execution error for {name}: bootstrap exited during init")
        return during + starting
