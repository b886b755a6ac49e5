"""The change log in the bucket, read without a line of Highwater's own: whether every write's record is in it."""

from __future__ import annotations

import json
import re
from typing import Any

import boto3
import zstandard

from load import Load, Write

# <prefix>/<table>/log/<stream label>/<shard id>/<first>-<last>-<count>.jsonl.zst
NAME = re.compile(r"/log/[^/]+/(?P<shard>shardId-[^/]+)/[0-9]{40}-[0-9]{40}-[0-9]+\.jsonl\.zst$")


class ChangeLog:
    """The records of a table's log, each once. What was read is kept, because an object never changes."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self._s3 = boto3.client("s3")
        self._bucket = bucket
        self._prefix = prefix
        self._read: set[str] = set()
        # (shard, sequence number) to the record: which key, and the serials of its images before and after.
        self._records: dict[tuple[str, str], tuple[str, int | None, int | None]] = {}

    def refresh(self) -> int:
        """Reads what has come since; how many records there are."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
        for page in pages:
            for listed in page.get("Contents", []):
                match = NAME.search(listed["Key"])
                if match and listed["Key"] not in self._read:
                    self._take(listed["Key"], match["shard"])
                    self._read.add(listed["Key"])
        return len(self._records)

    def _take(self, name: str, shard: str) -> None:
        stored = self._s3.get_object(Bucket=self._bucket, Key=name)["Body"].read()
        plain = zstandard.ZstdDecompressor().stream_reader(stored).read()
        for line in plain.splitlines():
            change: dict[str, Any] = json.loads(line)["dynamodb"]
            record = (change["Keys"]["id"]["S"], _serial(change.get("OldImage")), _serial(change.get("NewImage")))
            known = self._records.setdefault((shard, change["SequenceNumber"]), record)
            if known != record:
                raise AssertionError(f"{name}: two records of one sequence number: {known} and {record}")

    def lacks(self, load: Load, until: int) -> list[str]:
        """Writes up to the end of this second whose record is missing, and records of no write; empty if all is well."""
        by_key: dict[str, list[tuple[int | None, int | None]]] = {}
        for _, (key, before, after) in sorted(self._records.items(), key=_order):
            by_key.setdefault(key, []).append((before, after))
        told = []
        for key, writes in load.history.items():
            wanted = records_of(writes)
            found = by_key.pop(key, [])
            due = sum(1 for write in writes if int(write.end) <= until)
            if found != wanted[: len(found)]:
                told.append(f"the log of {key} is {found}, and not {wanted}")
            elif len(found) < due:
                told.append(f"the log of {key} lacks {wanted[len(found) : due]}")
        return told + [f"the log has a key that nobody wrote: {key}" for key in by_key]


def records_of(writes: list[Write]) -> list[tuple[int | None, int | None]]:
    """The serials before and after each write, as the stream tells them."""
    serials = [None if write.item is None else write.serial for write in writes]
    return list(zip([None, *serials], serials))


def _serial(image: dict[str, Any] | None) -> int | None:
    return None if image is None else int(image["serial"]["N"])


def _order(entry: tuple[tuple[str, str], object]) -> tuple[str, str]:
    (shard, number), _ = entry
    return shard, number.zfill(40)
