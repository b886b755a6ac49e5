"""Whom the rounds kill, when, and how often."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

# Of the first round, in seconds: well within the scan, which the backup's read capacity makes last for seconds.
MID_SEGMENT = 1.0
# From when a function is first seen at work to when it is killed, at most. Roughly as long as it takes.
SPREAD = {"scan-segment": 3.0, "consume-stream": 3.0, "audit-stream": 3.0}
SPREAD_OF_OTHERS = 0.2
# Every so many rounds a function is killed until its state machine gives up, so that there is something to resume.
STUBBORN_EVERY = 4
# How often a state machine tries: once, and as often again as its Retry of a dead process has attempts.
ATTEMPTS = 4
# A Map's branches each have theirs: four of them are at work at once.
STUBBORN_KILLS = 4 * ATTEMPTS
STUBBORN = dict.fromkeys(("scan-segment", "scatter-log", "fold-log", "load-part"), STUBBORN_KILLS)
STUBBORN_OF_OTHERS = ATTEMPTS
# No state machine calls these.
CALLED_OTHERWISE = ("apply-log", "audit-stream", "consume-stream")


@dataclass(frozen=True)
class Aim:
    """Which function is killed, and how often."""

    function: str
    # Its name on the stack.
    deployed: str
    # Seconds after it was seen at work.
    delay: float
    kills: int

    def sooner(self) -> Aim:
        """The same for a function that was done before its turn came."""
        return replace(self, delay=self.delay / 3)


def plan(functions: dict[str, str], rounds: int, seed: int) -> list[Aim]:
    """First a worker in the middle of a segment, then so many rounds with every function in turn.

    `functions` are their names, with those that they have on the stack.
    """
    planned = [Aim("scan-segment", functions["scan-segment"], MID_SEGMENT, 1)]
    dice = random.Random(seed)
    order = sorted(functions)
    dice.shuffle(order)
    for number in range(rounds):
        function = order[number % len(order)]
        delay = dice.uniform(0, SPREAD.get(function, SPREAD_OF_OTHERS))
        stubborn = number % STUBBORN_EVERY == STUBBORN_EVERY - 1 and function not in CALLED_OTHERWISE
        kills = STUBBORN.get(function, STUBBORN_OF_OTHERS) if stubborn else 1
        planned.append(Aim(function, functions[function], delay, kills))
    return planned
