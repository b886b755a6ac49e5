"""The Runtime API of one function, so small that it does not count: one thread, no library, a request at a time."""

from __future__ import annotations

import selectors
import socket
import time
from typing import NamedTuple

PATIENCE_SECONDS = 20
LIFE_SECONDS = 60


class Request(NamedTuple):
    """What the function asks or tells."""

    # What it came by, and its answer has to go by.
    connection: socket.socket
    # As "GET /2018-06-01/runtime/invocation/next".
    line: str
    # When its last byte was here, as time.monotonic_ns() tells.
    at: int
    body: bytes


class RuntimeApi:
    """A listener on loopback."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        # What has come of each connection's next request.
        self._received: dict[socket.socket, bytes] = {}
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def request(self) -> Request:
        """The function's next request.

        Raises TimeoutError if none comes.
        """
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            for key, _ in self._selector.select(timeout=0.5):
                if key.fileobj is self._listener:
                    self._connect()
                elif request := self._receive(key.data):
                    return request
        raise TimeoutError(f"no request in {PATIENCE_SECONDS} s")

    def _connect(self) -> None:
        connection, _ = self._listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(connection, selectors.EVENT_READ, connection)
        self._received[connection] = b""

    def _receive(self, connection: socket.socket) -> Request | None:
        received = connection.recv(1 << 16)
        at = time.monotonic_ns()
        if not received:
            self._selector.unregister(connection)
            del self._received[connection]
            connection.close()
            return None
        self._received[connection] += received
        head, ended, body = self._received[connection].partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        lengths = [line.partition(":")[2] for line in lines if line.lower().startswith("content-length:")]
        if not ended or len(body) < int(lengths[0] if lengths else 0):
            return None
        self._received[connection] = b""
        return Request(connection, lines[0].rpartition(" ")[0], at, body)

    def give(self, request: Request, event: bytes) -> None:
        """Answers the request for an event."""
        headers = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": "8476a536-e9f4-11e8-9739-2dfe598c3fcd",
            "Lambda-Runtime-Deadline-Ms": str(int((time.time() + LIFE_SECONDS) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:eu-west-1:123456789012:function:measured",
            "Lambda-Runtime-Trace-Id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0",
        }
        self._answer(request, "200 OK", headers, event)

    def accept(self, request: Request) -> None:
        """Takes what the function made of its event."""
        self._answer(request, "202 Accepted", {}, b"")

    def _answer(self, request: Request, status: str, headers: dict[str, str], body: bytes) -> None:
        lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers.items())]
        head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""])
        request.connection.sendall(head.encode() + body)

    def close(self) -> None:
        """Ends all of its connections."""
        self._selector.close()
        for one in (self._listener, *self._received):
            one.close()
