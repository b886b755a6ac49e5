"""Backups, restores and audits on the deployed stack, by the same calls as a user's; a failed one is resumed."""

from __future__ import annotations

import json
import textwrap
import time
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config

from aims import ATTEMPTS, STUBBORN_KILLS
from deployment import Deployment

EXECUTION_SECONDS = 180
# A failed job that so many resumes do not complete is not resumable. Where a Map has one branch, as ScatterLog has of a stream
# with one shard, a stubborn killer ends the first execution and three resumes; nobody disturbs the next one.
RESUMES = STUBBORN_KILLS // ATTEMPTS
# The whole is in the functions' logs.
REASON_CHARACTERS = 110


@dataclass(frozen=True)
class Ended:
    """How a backup or a restore came to its end."""

    id: str
    # What each execution that did not succeed said: none, if the first one did.
    failures: list[str]


class NotResumable(Exception):
    """A job that failed and that no resume completes."""


class Workflows:
    """The stack's three state machines, its audit, and what feeds its replicas."""

    def __init__(self, deployment: Deployment, table: str) -> None:
        self._deployment = deployment
        self._table = table
        self._states = boto3.client("stepfunctions")
        self._s3 = boto3.client("s3")
        self._dynamodb = boto3.client("dynamodb")
        # An audit may take minutes, and a call that is repeated would be a second one.
        self._lambda = boto3.client("lambda", config=Config(read_timeout=300, retries={"total_max_attempts": 1}))

    def backup(self) -> Ended:
        """Starts the backups as the schedule does, and brings this table's to its end.

        Raises NotResumable.
        """
        before = self._snapshots()
        started = self._run(self._deployment.outputs["StartBackupsStateMachineArn"], self._scheduled())
        (backup,) = json.loads(started["output"])
        ended = self._wait(backup["execution"])
        failures: list[str] = []
        while ended["status"] != "SUCCEEDED":
            failures.append(reason(ended))
            if len(failures) > RESUMES:
                raise NotResumable(f"backup: {failures}")
            begun = self._snapshots() - before
            request = {"snapshot_id": max(begun), "resume": True} if begun else self._request()
            ended = self._run(self._deployment.outputs["BackupStateMachineArn"], request, may_fail=True)
        snapshot = max(self._snapshots() - before)
        status = self.metadata(snapshot)["status"]
        if status != "completed":
            raise NotResumable(f"backup {snapshot}: its execution succeeded, and it is {status}")
        return Ended(snapshot, failures)

    def restore(self, to: str, second: int, margin: int) -> Ended:
        """Restores the table to a second, into a new one.

        Raises NotResumable.
        """
        before = self._restores()
        request: dict[str, Any] = {
            "backup": f"{self._deployment.destination}/{self._table}",
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second)),
            "grade": "proven",
            "stamp_margin_s": margin,
            "to": to,
            "concurrency": 4,
            "rejects": f"{self._deployment.destination}/rejects",
        }
        machine = self._deployment.outputs["RestoreStateMachineArn"]
        ended = self._run(machine, request, may_fail=True)
        failures: list[str] = []
        while ended["status"] != "SUCCEEDED":
            failures.append(reason(ended))
            if len(failures) > RESUMES:
                raise NotResumable(f"restore: {failures}")
            begun = self._restores() - before
            again = {"restore_id": max(begun), "resume": True} if begun else request
            ended = self._run(machine, again, may_fail=True)
        return Ended(max(self._restores() - before), failures)

    def audit(self) -> dict[str, Any] | None:
        """One audit of the table; its report, or None if its process was killed."""
        told = self._invoke("AuditStreamFunction")
        return told and dict(told["tables"][0])

    def apply(self) -> dict[str, Any] | None:
        """Gives the table's one replica what the log has for it; its report, or None if the process was killed."""
        told = self._invoke("ApplyLogFunction")
        return told and dict(told["replicas"][0])

    def _invoke(self, function: str) -> dict[str, Any] | None:
        answer = self._lambda.invoke(
            FunctionName=self._deployment.resources[function],
            Payload=json.dumps({"table": self._table}),
        )
        told: dict[str, Any] = json.loads(answer["Payload"].read())
        if answer.get("FunctionError"):
            if str(told.get("errorType", "")).startswith("Runtime."):
                return None
            raise AssertionError(f"{function} failed: {told}")
        return told

    def metadata(self, snapshot: str) -> dict[str, Any]:
        """A snapshot's backup.json."""
        key = f"{self._folder()}/AWSDynamoDB/{snapshot}/backup.json"
        stored = self._s3.get_object(Bucket=self._deployment.bucket, Key=key)
        return dict(json.loads(stored["Body"].read()))

    def _scheduled(self) -> dict[str, Any]:
        return dict(json.loads(self._deployment.outputs["StartBackupsInput"]))

    def _request(self) -> dict[str, Any]:
        """What the schedule asks of one backup."""
        shared = self._scheduled()
        shared.pop("tables")
        return {"table": self._table, **shared}

    def _folder(self) -> str:
        prefix = self._deployment.destination.removeprefix(f"s3://{self._deployment.bucket}/")
        return f"{prefix}/{self._table}"

    def _snapshots(self) -> set[str]:
        return self._records("snapshot")

    def _restores(self) -> set[str]:
        return self._records("restore")

    def _records(self, kind: str) -> set[str]:
        """The ids of what was begun, by the control table."""
        pages = self._dynamodb.get_paginator("scan").paginate(
            TableName=self._deployment.control_table,
            ProjectionExpression="#id",
            FilterExpression="begins_with(#id, :kind) AND #name = :name",
            ExpressionAttributeNames={"#id": "id", "#name": "name"},
            ExpressionAttributeValues={":kind": {"S": f"{kind}#"}, ":name": {"S": kind}},
        )
        return {item["id"]["S"].removeprefix(f"{kind}#") for page in pages for item in page["Items"]}

    def _run(self, machine: str, request: dict[str, Any], *, may_fail: bool = False) -> dict[str, Any]:
        started = self._states.start_execution(stateMachineArn=machine, input=json.dumps(request))
        ended = self._wait(started["executionArn"])
        if ended["status"] != "SUCCEEDED" and not may_fail:
            raise AssertionError(f"{machine}: {reason(ended)}")
        return ended

    def _wait(self, execution: str) -> dict[str, Any]:
        end = time.monotonic() + EXECUTION_SECONDS
        while True:
            told: dict[str, Any] = self._states.describe_execution(executionArn=execution)
            if told["status"] != "RUNNING":
                return told
            if time.monotonic() > end:
                raise AssertionError(f"{execution} is still running after {EXECUTION_SECONDS} s")
            time.sleep(0.2)


def reason(ended: dict[str, Any]) -> str:
    """Why an execution did not succeed, in a short line."""
    words = message(ended.get("cause") or "no cause is told")
    return textwrap.shorten(f"{ended['status']} {ended.get('error')}: {words}", REASON_CHARACTERS, placeholder=" …")


def message(cause: str) -> str:
    """What the cause of a failure says: of a function's, which is JSON, its message without the lines that were logged."""
    try:
        told = json.loads(cause)
    except ValueError:
        return cause
    said = str(told.get("errorMessage", cause)) if isinstance(told, dict) else cause
    return said.partition(": {")[0]
