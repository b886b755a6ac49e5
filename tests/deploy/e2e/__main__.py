"""The whole of Highwater, deployed to a local AWS stack: backup under load, kill, restore to a second, compare, keep a replica.

Run it by tests/deploy/e2e.sh, which installs what it needs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from types import FrameType

import boto3

import deployment
from aims import Aim, plan
from change_log import ChangeLog
from deployment import Deployment
from engine import Engine
from killer import Killer
from load import Load
from replica import Replica
from rounds import Loss, Report, Round
from workflows import NotResumable, Workflows

ROOT = Path(__file__).resolve().parents[3]
TABLE = "orders"
# Stamp margins of restores, in seconds: of the first round what is usual; of the others as much as one clock needs.
USUAL_MARGIN = 60
SHORT_MARGIN = 2
# So many rounds may meet nobody, and as many again as there are to be kills.
MISSES = 2
HEAD = "    killed            hits failed  writes  records  filled  items   second   took"


def main() -> int:
    arguments = parse()
    signal.signal(signal.SIGTERM, interrupt)
    shutil.rmtree(arguments.folder, ignore_errors=True)
    logs: Path = arguments.folder / "logs"
    logs.mkdir(parents=True)
    print(f"seed {arguments.seed}, logs in {logs}", flush=True)
    engine = Engine(arguments.folder, ROOT / "tests/deploy/local_stack.py")
    try:
        say("the local stack")
        engine.start()
        os.environ.update(engine.environment())
        return run(arguments, engine, logs)
    except (Loss, NotResumable, AssertionError) as lost:
        print(f"\nLOST with seed {arguments.seed}: {lost}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    finally:
        # A second interrupt must not leave processes behind.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        engine.stop()
        shutil.rmtree(arguments.folder / "scratch", ignore_errors=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="e2e.sh", description=__doc__.splitlines()[0])
    parser.add_argument("--bootstraps", type=Path, metavar="FOLDER", help="executables, one per function, by its name")
    parser.add_argument("--highwater", type=Path, metavar="PATH", help="the command; without it, in the folder of --bootstraps")
    parser.add_argument("--kills", type=int, default=0, metavar="N", help="rounds in which a function is killed")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    for hidden in ("--built", "--sam", "--folder"):
        parser.add_argument(hidden, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.highwater is None and arguments.bootstraps is not None:
        arguments.highwater = arguments.bootstraps / "highwater"
    if arguments.highwater is None or not arguments.highwater.is_file():
        parser.error(f"there is no command to begin a replica with: {arguments.highwater}")
    arguments.highwater = arguments.highwater.resolve()
    return arguments


def interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def say(what: str) -> None:
    print(f"\n== {what}", flush=True)


def run(arguments: argparse.Namespace, engine: Engine, logs: Path) -> int:
    say("a table with a stream, and sam deploy")
    begun = time.monotonic()
    stream = make_table()
    load = Load(TABLE, arguments.seed)
    load.fill()
    template = (
        deployment.with_bootstraps(ROOT, arguments.bootstraps.resolve(), arguments.folder / "scratch")
        if arguments.bootstraps
        else arguments.built / "template.yaml"
    )
    deployed = deployment.deploy(arguments.sam, template, engine.environment(), TABLE, stream, logs / "sam-deploy.log")
    deployment.check(deployed, stream)
    print(f"deployed in {time.monotonic() - begun:.0f} s; schedules and mapping are as they should be", flush=True)
    say("rounds")
    try:
        play_rounds(arguments, engine, deployed, load, logs)
    except BaseException:
        # What went wrong is to be seen, and not that its logs could not be had.
        with contextlib.suppress(Exception):
            write_logs(deployed, logs)
        raise
    write_logs(deployed, logs)
    print("\nnothing is lost", flush=True)
    return 0


def play_rounds(arguments: argparse.Namespace, engine: Engine, deployed: Deployment, load: Load, logs: Path) -> None:
    """Plays rounds until every planned kill has met a function at work. Raises what the first bad one raises."""
    prefix = deployed.destination.removeprefix(f"s3://{deployed.bucket}/")
    log = ChangeLog(deployed.bucket, f"{prefix}/{TABLE}/log/")
    workflows = Workflows(deployed, TABLE)
    replica = Replica(arguments.highwater, deployed, workflows, TABLE, logs)
    one = Round(TABLE, load, workflows, log, replica)
    print(HEAD, flush=True)
    number = missed = 0
    left = plan(deployed.functions(), arguments.kills, arguments.seed)
    while left:
        aim = left.pop(0)
        killer = Killer(engine.pid, engine.log_path, aim)
        dice = random.Random(f"{arguments.seed}-{number}")
        report = one.run(dice, killer, SHORT_MARGIN if number else USUAL_MARGIN)
        show(number, aim, killer, report)
        number += 1
        if killer.hits == 0:
            # It met nobody at work, and does not count.
            missed += 1
            if missed > MISSES + arguments.kills:
                raise AssertionError(f"too few kills met a function at work: {missed} of {number} rounds had none")
            left.insert(0, aim.sooner())


def make_table() -> str:
    """The table that is backed up; its stream's ARN."""
    dynamodb = boto3.client("dynamodb")
    made = dynamodb.create_table(
        TableName=TABLE,
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    return str(made["TableDescription"]["LatestStreamArn"])


def show(number: int, aim: Aim, killer: Killer, report: Report) -> None:
    second = time.strftime("%H:%M:%S", time.gmtime(report.second))
    print(
        f"{number:>3} {aim.function:<17} {killer.hits:>4} {len(report.failures):>6} {report.writes:>7} {report.records:>8}"
        f" {report.back_filled:>7} {report.items:>6} {second:>8} {report.seconds:>5.1f}s",
        flush=True,
    )
    for failure in report.failures:
        print(f"      resumed after {failure}", flush=True)


def write_logs(deployed: Deployment, logs: Path) -> None:
    """Keeps what the functions said."""
    client = boto3.client("logs")
    for group in client.describe_log_groups()["logGroups"]:
        name = group["logGroupName"]
        pages = client.get_paginator("filter_log_events").paginate(logGroupName=name)
        lines = [event["message"].rstrip("\n") for page in pages for event in page["events"]]
        (logs / f"{name.strip('/').replace('/', '.')}.log").write_text("\n".join(lines))


if __name__ == "__main__":
    sys.exit(main())
