"""template.yaml on the local stack: its functions put in their places, `sam deploy`, and what came of it."""

from __future__ import annotations

import json
import platform
import re
import shutil
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

STACK = "highwater-e2e"
# Of a scheduled backup, so that a scan takes seconds and a worker can be met in the middle. It decides how many items a
# page has; how many pages a second are read then follows from the engine, which charges the same for each.
READ_CAPACITY = 40
FUNCTIONS = re.compile(r"^( +CodeUri: )functions/([a-z-]+)$", re.MULTILINE)
MACHINES = re.compile(r"^( +DefinitionUri: )(statemachine/[a-z-]+\.asl\.json)$", re.MULTILINE)


@dataclass(frozen=True)
class Deployment:
    """What a deployed stack tells about itself."""

    outputs: dict[str, str]
    # Logical ids to names, as PlanBackupFunction to highwater-e2e-PlanBackupFunction-1A2B.
    resources: dict[str, str]

    @property
    def bucket(self) -> str:
        return self.outputs["SnapshotBucketName"]

    @property
    def destination(self) -> str:
        return self.outputs["Destination"]

    @property
    def control_table(self) -> str:
        return self.outputs["ControlTableName"]

    def functions(self) -> dict[str, str]:
        """The functions: their folders' names to those that they were deployed under."""
        return {
            kebab(logical.removesuffix("Function")): name
            for logical, name in self.resources.items()
            if logical.endswith("Function")
        }


def kebab(name: str) -> str:
    """PlanBackup as plan-backup."""
    return re.sub(r"(?<!^)([A-Z])", r"-\1", name).lower()


def with_bootstraps(root: Path, bootstraps: Path, folder: Path) -> Path:
    """A copy of template.yaml that takes its functions from a folder of executables; the path of the copy.

    Raises FileNotFoundError if a function is missing there.
    """
    packed = folder / "functions"
    packed.mkdir(parents=True)

    def function(match: re.Match[str]) -> str:
        return match[1] + str(pack(bootstraps / match[2], packed))

    text = (root / "template.yaml").read_text()
    text, functions = FUNCTIONS.subn(function, text)
    text, machines = MACHINES.subn(lambda match: f"{match[1]}{root / match[2]}", text)
    if functions != text.count("CodeUri:") or machines != text.count("DefinitionUri:"):
        raise RuntimeError("template.yaml names functions or state machines in a way that this program does not know")
    template = folder / "template.yaml"
    template.write_text(text)
    return template


def pack(executable: Path, folder: Path) -> Path:
    """A zip with the executable as `bootstrap`, without its symbols where `strip` is at hand."""
    bootstrap = folder / f"{executable.name}.bootstrap"
    shutil.copy(executable, bootstrap)
    strip = shutil.which("strip")
    if strip:
        subprocess.run([strip, str(bootstrap)], check=True)
    archive = folder / f"{executable.name}.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        file.write(bootstrap, "bootstrap")
    bootstrap.unlink()
    return archive


def deploy(sam: Path, template: Path, environment: dict[str, str], table: str, stream: str, log: Path) -> Deployment:
    """Deploys the template, as a user would.

    Raises RuntimeError if that fails; the reason is in the log.
    """
    parameters = {
        "TableNames": table,
        "StreamArns": stream,
        "Architecture": "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64",
        "ReadCapacity": str(READ_CAPACITY),
        "ReplicaTables": f"{table}-replica",
    }
    command = [
        str(sam), "deploy", "--template-file", str(template), "--stack-name", STACK, "--resolve-s3",
        "--capabilities", "CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND", "--no-confirm-changeset",
        "--no-progressbar", "--parameter-overrides", *(f"{name}={value}" for name, value in parameters.items()),
    ]  # fmt: skip
    with log.open("wb") as out:
        # Beside the template, and not in the root, whose samconfig.toml is a user's.
        ended = subprocess.run(command, env=environment, cwd=template.parent, stdout=out, stderr=subprocess.STDOUT)
    if ended.returncode != 0:
        raise RuntimeError(f"sam deploy failed: see {log}")
    return describe()


def describe() -> Deployment:
    """The stack as CloudFormation tells it."""
    formation = boto3.client("cloudformation")
    (stack,) = formation.describe_stacks(StackName=STACK)["Stacks"]
    resources = formation.describe_stack_resources(StackName=STACK)["StackResources"]
    return Deployment(
        outputs={output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]},
        resources={one["LogicalResourceId"]: one["PhysicalResourceId"] for one in resources},
    )


def check(deployment: Deployment, stream: str) -> None:
    """That the schedules and the mapping are there and do what the template says.

    Raises AssertionError with what is wrong.
    """
    schedules = _schedules()
    backups = _only(schedules, deployment.outputs["StartBackupsStateMachineArn"])
    expect("state of the backups' schedule", backups["State"], "ENABLED")
    expect("expression of the backups' schedule", backups["ScheduleExpression"], "cron(0 3 * * ? *)")
    given = json.loads(backups["Target"]["Input"])
    expect("input of the backups' schedule", given, json.loads(deployment.outputs["StartBackupsInput"]))
    audits = _only(schedules, deployment.resources["AuditStreamFunction"])
    expect("state of the audits' schedule", audits["State"], "ENABLED")
    (mapping,) = boto3.client("lambda").list_event_source_mappings()["EventSourceMappings"]
    expect("the mapping's stream", mapping["EventSourceArn"], stream)
    expect("where the mapping starts", mapping["StartingPosition"], "TRIM_HORIZON")
    expect("what the mapping reports", mapping["FunctionResponseTypes"], ["ReportBatchItemFailures"])


def _schedules() -> list[dict[str, Any]]:
    scheduler = boto3.client("scheduler")
    listed = scheduler.list_schedules()["Schedules"]
    return [scheduler.get_schedule(Name=one["Name"], GroupName=one["GroupName"]) for one in listed]


def _only(schedules: list[dict[str, Any]], target: str) -> dict[str, Any]:
    found = [one for one in schedules if one["Target"]["Arn"].endswith(target)]
    expect(f"schedules of {target}", len(found), 1)
    return found[0]


def expect(what: str, found: object, wanted: object) -> None:
    """Raises AssertionError, also under -O, if the two are not equal."""
    if found != wanted:
        raise AssertionError(f"{what}: {found!r}, and not {wanted!r}")
