"""The table's replica: begun by the command as a user would, and kept equal by the stack's functions."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from deployment import Deployment
from load import Item, difference, items_of
from workflows import Workflows

# How long the functions may take to apply what the log holds.
CATCH_UP_SECONDS = 60
# Of the load of a table that a backup takes seconds for.
LOAD_SECONDS = 180


class Replica:
    """A second table, which is to hold what the first one holds."""

    def __init__(self, program: Path, deployment: Deployment, workflows: Workflows, table: str, logs: Path) -> None:
        self._program = program
        self._deployment = deployment
        self._workflows = workflows
        self._source = table
        self._log = logs / "replicate.log"
        self.table = f"{table}-replica"
        self.is_begun = False

    def begin(self, snapshot: str) -> None:
        """Loads it from a snapshot, and leaves the rest to the stack.

        Raises RuntimeError if the command fails; the reason is in its log.
        """
        command = [
            str(self._program), "replicate", self._source, "--to", self.table, "--from", self._deployment.destination,
            "--snapshot", snapshot, "--control-table", self._deployment.control_table, "--no-follow", "--until-idle",
        ]  # fmt: skip
        with self._log.open("wb") as out:
            ended = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, timeout=LOAD_SECONDS)
        if ended.returncode != 0:
            raise RuntimeError(f"highwater replicate failed: see {self._log}")
        self.is_begun = True

    def catch_up(self, wanted: dict[str, Item]) -> tuple[list[str], list[str]]:
        """Applies the log until the replica holds this. What differs still when the time is up, and what was killed on the way.

        Records that it refuses are a difference, whatever it holds.
        """
        end = time.monotonic() + CATCH_UP_SECONDS
        killed = []
        while True:
            told = self._workflows.apply()
            if told is None:
                killed.append("apply-log: its process was killed")
                if time.monotonic() > end:
                    return ["apply-log was killed until the time was up"], killed
                continue
            refused = [f"{told['refused']} records were refused"] if told["refused"] else []
            differences = refused + difference(wanted, items_of(self.table))
            if not differences or time.monotonic() > end:
                return differences, killed
            time.sleep(0.3)
