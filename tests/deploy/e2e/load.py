"""Writers that change a table without pause and remember every write: what the table held at a second is known."""

from __future__ import annotations

import random
import threading
import time
from typing import Any, NamedTuple

import boto3
from botocore.config import Config

Item = dict[str, Any]

WRITERS = 3
KEYS = 6000
# Seconds between two writes of a writer, in a hurry and otherwise.
SHORT_PAUSE = 0.008
LONG_PAUSE = 0.1
# A second's last moments, in which no write begins: so almost none spans two seconds, in one of which it is stamped.
QUIET = 0.88
# Values that a careless hand would change: each is to come back as it is.
ODD_VALUES: tuple[Item, ...] = (
    {"S": ""},
    {"S": 'quotes " \\ and lines\n and \u00e4\U0001f30a'},
    {"N": "12345678901234567890123456789012345678"},
    {"N": "-0.00000000000000000001"},
    {"B": b"\x00\xff\x10"},
    {"BOOL": False},
    {"NULL": True},
    {"L": [{"M": {}}, {"S": "1"}, {"N": "1"}]},
    {"SS": ["a", "b"]},
    {"NS": ["1", "2.5"]},
    {"BS": [b"\x00", b"\x01"]},
)


class Write(NamedTuple):
    """One write: the table took it between `start` and `end`, in seconds since 1970."""

    serial: int
    start: float
    end: float
    # What the key then had; None after a delete.
    item: Item | None


class Load:
    """The writers. Each has keys of its own, so that the order of a key's writes is known."""

    def __init__(self, table: str, seed: int) -> None:
        self._table = table
        self._seed = seed
        self._dynamodb = boto3.client("dynamodb", config=Config(retries={"total_max_attempts": 1}))
        self._keys = [f"order-{number:05}" for number in range(KEYS)]
        self._threads: list[threading.Thread] = []
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._begun = 0
        self._pause = SHORT_PAUSE
        self.history: dict[str, list[Write]] = {key: [] for key in self._keys}
        # Seconds that end in the middle of a write: whether it belongs to them nobody knows.
        self._blurred: set[int] = set()

    def fill(self) -> None:
        """Gives every key its first item."""
        dice = random.Random(self._seed)
        for begin in range(0, KEYS, 25):
            batch = [(key, _item(key, 1, dice)) for key in self._keys[begin : begin + 25]]
            requests = [{"PutRequest": {"Item": item}} for _, item in batch]
            start = _calm()
            answer = self._dynamodb.batch_write_item(RequestItems={self._table: requests})
            end = time.time()
            if answer.get("UnprocessedItems"):
                raise RuntimeError("the local stack did not take a batch whole")
            for key, item in batch:
                self._remember(key, Write(1, start, end, item))

    def hurry(self, in_a_hurry: bool) -> None:
        """How fast the writers write from now on."""
        self._pause = SHORT_PAUSE if in_a_hurry else LONG_PAUSE

    def start(self) -> None:
        self._stop.clear()
        self._begun += 1
        for number in range(WRITERS):
            dice = random.Random(f"{self._seed}-{self._begun}-{number}")
            thread = threading.Thread(target=self._write, args=(self._keys[number::WRITERS], dice), daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Returns when no write is under way. Raises what a writer failed with."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        if self._failure is not None:
            raise RuntimeError("a writer failed, and what the table holds is not known") from self._failure

    def writes(self) -> int:
        return sum(len(writes) for writes in self.history.values())

    def is_clear(self, second: int) -> bool:
        """Whether every write belongs either to the time up to the end of this second, or to the time after it."""
        return second not in self._blurred

    def at(self, second: int) -> dict[str, Item]:
        """What the table held when this second was over. No writer may be at work."""
        held = {}
        for key, writes in self.history.items():
            last = next((write for write in reversed(writes) if int(write.end) <= second), None)
            if last is not None and last.item is not None:
                held[key] = last.item
        return held

    def now(self) -> dict[str, Item]:
        """What the table holds. No writer may be at work."""
        held = {key: writes[-1].item for key, writes in self.history.items() if writes}
        return {key: item for key, item in held.items() if item is not None}

    def _write(self, keys: list[str], dice: random.Random) -> None:
        try:
            while not self._stop.is_set():
                key = dice.choice(keys)
                self._change(key, dice)
                time.sleep(self._pause)
        except BaseException as failure:  # whatever it is, stop() tells it
            self._failure = failure

    def _change(self, key: str, dice: random.Random) -> None:
        last = self.history[key][-1]
        serial = last.serial + 1
        # A delete of nothing makes no record, and would be no write.
        item = None if last.item is not None and dice.random() < 0.2 else _item(key, serial, dice)
        start = _calm()
        if item is None:
            self._dynamodb.delete_item(TableName=self._table, Key={"id": {"S": key}})
        else:
            self._dynamodb.put_item(TableName=self._table, Item=item)
        self._remember(key, Write(serial, start, time.time(), item))

    def _remember(self, key: str, write: Write) -> None:
        self._blurred.update(range(int(write.start), int(write.end)))
        self.history[key].append(write)


def _item(key: str, serial: int, dice: random.Random) -> Item:
    return {
        "id": {"S": key},
        "serial": {"N": str(serial)},
        "odd": dice.choice(ODD_VALUES),
        "filling": {"S": dice.choice("abcdefgh") * 1000},
    }


def _calm() -> float:
    """Waits out a second's last moments; the time now."""
    now = time.time()
    if now % 1 > QUIET:
        time.sleep(1 - now % 1 + 0.005)
    return time.time()


def items_of(table: str) -> dict[str, Item]:
    """What a table holds, by its key."""
    pages = boto3.client("dynamodb").get_paginator("scan").paginate(TableName=table, ConsistentRead=True)
    return {item["id"]["S"]: item for page in pages for item in page["Items"]}


def difference(wanted: dict[str, Item], found: dict[str, Item]) -> list[str]:
    """What is missing, too much or other than it should be, in words; empty if nothing is."""
    told = [f"{key} is missing" for key in wanted.keys() - found.keys()]
    told += [f"{key} should not be there" for key in found.keys() - wanted.keys()]
    for key in wanted.keys() & found.keys():
        if _comparable(wanted[key]) != _comparable(found[key]):
            told.append(f"{key} is {found[key]}, and not {wanted[key]}")
    return sorted(told)


def _comparable(value: Any) -> Any:
    """Sets have no order."""
    if isinstance(value, dict):
        return {name: sorted(inner) if name in ("SS", "NS", "BS") else _comparable(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_comparable(inner) for inner in value]
    return value
