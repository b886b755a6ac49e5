"""One round: load, a scheduled backup, audits, a replica, a restore to a second, and everything compared with what is known."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import boto3

from change_log import ChangeLog
from killer import Killer
from load import Load, difference, items_of
from replica import Replica
from workflows import Workflows

# How long the audits may take to prove a second that is over.
PROOF_SECONDS = 60
LATER_SECONDS = 3
# Of a list of differences.
SHOWN = 5


class Loss(Exception):
    """An item or a record that is not where it should be."""


@dataclass
class Report:
    """What happened in a round."""

    second: int = 0
    items: int = 0
    writes: int = 0
    records: int = 0
    back_filled: int = 0
    seconds: float = 0
    # What executions failed with that were resumed, and what had to be repeated.
    failures: list[str] = field(default_factory=list)


class Round:
    """The parts of the stack that every round uses."""

    def __init__(self, table: str, load: Load, workflows: Workflows, log: ChangeLog, replica: Replica) -> None:
        self._table = table
        self._load = load
        self._workflows = workflows
        self._log = log
        self._replica = replica
        self._snapshot = ""
        self._dynamodb = boto3.client("dynamodb")
        self._margin = 0
        self._failure: BaseException | None = None

    def run(self, dice: random.Random, killer: Killer, margin: int) -> Report:
        """A round whose restore has this stamp margin, in seconds: so much more of the log it wants than the scan took.

        Raises Loss at the first thing that is lost, NotResumable if a job cannot be brought to its end."""
        begun = time.monotonic()
        report = Report()
        self._margin = margin
        killer.start()
        try:
            handoff, wanted = self._under_load(report)
            proven = self._prove(wanted, report)
            self._check_log(proven, report)
            self._check_replica(report)
            report.second = self._choose(handoff, proven, dice)
            self._restore(report)
        finally:
            killer.stop()
        report.writes = self._load.writes()
        report.seconds = time.monotonic() - begun
        return report

    def _under_load(self, report: Report) -> tuple[int, int]:
        """A backup beside an audit, as the schedules make them meet; between which seconds the restore is to be."""
        self._load.hurry(True)
        self._load.start()
        # It goes on as long as there is something new to read.
        audit = threading.Thread(target=self._audit_beside, args=(report,), daemon=True)
        audit.start()
        try:
            handoff, wanted = self._backup(report)
            self._load.hurry(False)
            # Only a later record of its shard proves a second.
            time.sleep(max(wanted + LATER_SECONDS - time.time(), LATER_SECONDS))
        finally:
            self._load.stop()
            audit.join()
        if self._failure is not None:
            raise self._failure
        return handoff, wanted

    def _audit_beside(self, report: Report) -> None:
        try:
            self._audit(report)
        except BaseException as failure:  # raised where the load is stopped
            self._failure = failure

    def _audit(self, report: Report) -> dict[str, Any] | None:
        """One audit; None if it was killed."""
        audit = self._workflows.audit()
        if audit is None:
            report.failures.append("audit: its process was killed")
        elif audit["incidents"]:
            raise Loss(f"an audit met a loss: {audit}")
        else:
            report.back_filled += audit["back_filled"]
        return audit

    def _backup(self, report: Report) -> tuple[int, int]:
        """The second from which on this backup serves, and the one up to which that needs the log."""
        ended = self._workflows.backup()
        report.failures += ended.failures
        self._snapshot = ended.id
        metadata = self._workflows.metadata(ended.id)
        if metadata["handoff"] is None:
            raise Loss(f"snapshot {ended.id} has no handoff: {metadata['no_handoff']}")
        captured = metadata["handoff"]["captured_at"] / 1000
        # A restore takes it that the backup's clock may be behind by as much as lies between these two.
        behind = captured - seconds_of(metadata["backup_start_time"])
        needed = seconds_of(metadata["backup_end_time"]) + behind + self._margin
        return int(captured) + 1, int(needed) + 1

    def _prove(self, second: int, report: Report) -> int:
        """Audits until the log is known to be complete up to this second, or a later one; which it is."""
        end = time.monotonic() + PROOF_SECONDS
        audit = None
        while time.monotonic() < end:
            audit = self._audit(report)
            mark = audit and audit["mark"]
            if mark and (mark["proven"] or 0) >= second:
                return int(mark["proven"])
            time.sleep(0.3)
        raise Loss(f"the log is not known to be complete up to {second} after {PROOF_SECONDS} s of audits: {audit}")

    def _choose(self, first: int, last: int, dice: random.Random) -> int:
        """A second of which it is known what the table held."""
        clear = [second for second in range(first, last + 1) if self._load.is_clear(second)]
        if not clear:
            raise RuntimeError(f"no second from {first} to {last} ends between two writes: is the machine too busy?")
        return dice.choice(clear)

    def _check_log(self, proven: int, report: Report) -> None:
        report.records = self._log.refresh()
        clear = next(second for second in range(proven, 0, -1) if self._load.is_clear(second))
        if lacks := self._log.lacks(self._load, clear):
            raise Loss(f"the change log: {len(lacks)} differences up to {clear}, as {lacks[:SHOWN]}")

    def _check_replica(self, report: Report) -> None:
        """That the replica is the table. The first round begins it, from its own backup."""
        if not self._replica.is_begun:
            self._replica.begin(self._snapshot)
        told, killed = self._replica.catch_up(self._load.now())
        report.failures += killed
        if told:
            raise Loss(f"the replica: {len(told)} differences, as {told[:SHOWN]}")

    def _restore(self, report: Report) -> None:
        target = f"{self._table}-restored"
        ended = self._workflows.restore(target, report.second, self._margin)
        report.failures += ended.failures
        wanted = self._load.at(report.second)
        report.items = len(wanted)
        if told := difference(wanted, items_of(target)):
            raise Loss(f"restore to {report.second}: {len(told)} differences, as {told[:SHOWN]}")
        self._dynamodb.delete_table(TableName=target)


def seconds_of(time_of_day: str) -> float:
    """Seconds since 1970, of a time as backup.json has it."""
    return datetime.fromisoformat(time_of_day.replace("Z", "+00:00")).timestamp()
