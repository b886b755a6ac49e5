"""One cold start: a function's process from exec to its first event, and through that."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from executables import Executable
from refusing_aws import RefusingAws
from runtime_api import Request, RuntimeApi

NEXT = "GET /2018-06-01/runtime/invocation/next"
# After a request, until the threads that made it wait again: only then does the kernel tell all they used.
SETTLE_SECONDS = 0.02
# Either is in the answer to an event whose call was refused: the error's name, or the records that are to come again.
REFUSED = (b"AccessDenied", b"itemIdentifier")


@dataclass(frozen=True)
class Start:
    """What one cold start took."""

    # From before exec until the first event is asked for.
    ready_seconds: float
    # Resident then.
    ready_bytes: int
    # Processor time of the first invocation, from the event to the next one's request: nearly all of it its first call.
    call_seconds: float
    # Resident after it.
    idle_bytes: int
    # The calls that it made.
    calls: list[str]


def start(executable: Executable, event: bytes, aws: RefusingAws) -> Start:
    """Starts the function, gives it an event whose first call is refused, and ends it.

    Raises SystemExit, with what it wrote, if it does anything else.
    """
    api = RuntimeApi()
    with tempfile.TemporaryFile() as output:
        actions = [(os.POSIX_SPAWN_DUP2, output.fileno(), 1), (os.POSIX_SPAWN_DUP2, output.fileno(), 2)]
        program, variables = str(executable.path), environment(executable.name, api, aws)
        aws.take_calls()
        begun = time.monotonic_ns()
        pid = os.posix_spawn(program, [program], variables, file_actions=actions)
        try:
            return invoke(pid, begun, api, event, aws)
        except (OSError, AssertionError) as failure:
            output.seek(0)
            raise SystemExit(f"{program}: {failure}; it wrote {output.read().decode(errors='replace')}") from failure
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            api.close()


def invoke(pid: int, begun: int, api: RuntimeApi, event: bytes, aws: RefusingAws) -> Start:
    """The process's first invocation."""
    ready = expect(api.request(), NEXT)
    time.sleep(SETTLE_SECONDS)
    used, ready_bytes = processor_seconds(pid), resident_bytes(pid)
    api.give(ready, event)
    told = expect(api.request(), "POST /2018-06-01/runtime/invocation/")
    api.accept(told)
    expect(api.request(), NEXT)
    time.sleep(SETTLE_SECONDS)
    calls = aws.take_calls()
    if not calls or not any(sign in told.body for sign in REFUSED):
        raise AssertionError(f"its first call should have been refused: it called {calls}, and answered {told.body!r}")
    return Start((ready.at - begun) / 1e9, ready_bytes, processor_seconds(pid) - used, resident_bytes(pid), calls)


def expect(request: Request, wanted: str) -> Request:
    """Raises AssertionError if it is another request than this."""
    if not request.line.startswith(wanted):
        raise AssertionError(f"{request.line!r} came in the place of {wanted!r}: {request.body!r}")
    return request


def environment(name: str, api: RuntimeApi, aws: RefusingAws) -> dict[str, str]:
    """What Lambda and template.yaml set, and nothing of this machine's."""
    return {
        "AWS_LAMBDA_RUNTIME_API": api.address,
        "AWS_LAMBDA_FUNCTION_NAME": name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": "measured",
        "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "measured",
        "AWS_SECRET_ACCESS_KEY": "measured",
        "AWS_SESSION_TOKEN": "measured",
        "AWS_ENDPOINT_URL": aws.url,
        # rustls takes these in the place of the system's, which are in it.
        "SSL_CERT_FILE": str(aws.trusted),
        "HIGHWATER_CONTROL_TABLE": "highwater-control",
        "HIGHWATER_STACK": "measured",
        "HIGHWATER_TABLES": "orders",
        "HIGHWATER_LOG_TO": "s3://highwater-snapshots/nightly",
    }


def processor_seconds(pid: int) -> float:
    """What its threads have used."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def resident_bytes(pid: int) -> int:
    """What of it is in memory. The figure in its `status` may be off by hundreds of kilobytes, this one is not."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith("Rss:"))
    return int(kilobytes) * 1024
