"""What a cold start of each function takes, and whether it is within its budget. Run it by tests/deploy/measure.sh."""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import tempfile
from pathlib import Path

from executables import Executable
from refusing_aws import RefusingAws
from sandbox import Start, start

ROOT = Path(__file__).resolve().parents[3]
FEWEST_STARTS = 20
MB = 1_000_000
SIZES = ("MB", "zip MB")
# Of the median of all starts.
STARTS = ("ready ms", "ready MB", "call CPU ms", "idle MB")
BUDGETS = {"zip MB": 4.0, "ready ms": 5.0, "call CPU ms": 8.0, "idle MB": 14.0}


def main() -> int:
    arguments = parse()
    names = sorted(folder.name for folder in (ROOT / "functions").glob("[!.]*") if folder.is_dir())
    executables = [Executable.find(arguments.folder, name) for name in names]
    broken = show_sizes(executables) if arguments.sizes else show_all(executables, arguments.starts)
    print("\n".join(["", *broken] if broken else ["", "each function is within its budgets"]))
    return 1 if broken and not arguments.print else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="measure.sh", description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "target/lambda", help="where the executables are")
    parser.add_argument("--starts", type=int, default=FEWEST_STARTS, metavar="N", help="of each function")
    parser.add_argument("--sizes", action="store_true", help="starts none: for those of another architecture")
    parser.add_argument("--print", action="store_true", help="a broken budget is no failure")
    arguments = parser.parse_args()
    if arguments.starts < FEWEST_STARTS and not arguments.print:
        parser.error(f"fewer than {FEWEST_STARTS} starts decide nothing: --print only prints")
    return arguments


def show_sizes(executables: list[Executable]) -> list[str]:
    """Prints how big they are. Which budgets are broken, a line for each function."""
    print(head(SIZES))
    broken = []
    for executable in executables:
        row = sizes(executable)
        print(line(executable.name, row))
        broken += above(executable.name, row)
    return broken


def show_all(executables: list[Executable], times: int) -> list[str]:
    """Starts each so many times, and prints that, too. Which budgets are broken, a line for each function."""
    broken = []
    with tempfile.TemporaryDirectory() as scratch:
        aws = RefusingAws(Path(scratch))
        print(f"{machine()}; {times} starts of each; {aws.roots} roots to trust\n")
        print(f"{head(SIZES + STARTS)}  calls")
        for executable in executables:
            event = (ROOT / "events" / executable.name / "first.json").read_bytes()
            starts = [start(executable, event, aws) for _ in range(times)]
            row = sizes(executable) | medians(starts)
            print(f"{line(executable.name, row)}  {', '.join(starts[0].calls)}", flush=True)
            broken += above(executable.name, row)
    return broken


def sizes(executable: Executable) -> dict[str, float]:
    return {"MB": executable.size() / MB, "zip MB": executable.zipped_size() / MB}


def medians(starts: list[Start]) -> dict[str, float]:
    def median(name: str) -> float:
        return float(statistics.median(getattr(one, name) for one in starts))

    return {
        "ready ms": median("ready_seconds") * 1e3,
        "ready MB": median("ready_bytes") / MB,
        "call CPU ms": median("call_seconds") * 1e3,
        "idle MB": median("idle_bytes") / MB,
    }


def head(columns: tuple[str, ...]) -> str:
    """The columns' names, each that has one with its budget."""
    named = [f"{column} ≤{BUDGETS[column]:.0f}" if column in BUDGETS else column for column in columns]
    return f"{'':<17}" + "".join(f"{name:>16}" for name in named)


def line(name: str, row: dict[str, float]) -> str:
    return f"{name:<17}" + "".join(f"{figure:>16.2f}" for figure in row.values())


def above(name: str, row: dict[str, float]) -> list[str]:
    """A line about the budgets that this row breaks; none if it breaks none."""
    over = [f"{column} is {figure:.2f}" for column, figure in row.items() if figure > BUDGETS.get(column, figure)]
    return [f"{name} breaks its budget: {', '.join(over)}"] if over else []


def machine() -> str:
    """Which processor this is, of how many."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} × {names[0]}" if names else platform.machine()


if __name__ == "__main__":
    sys.exit(main())
