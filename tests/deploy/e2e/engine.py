"""The local AWS stack: one process on loopback, with IAM enforced, by TLS, because the bucket's policy wants it."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import IO

import processes

START_SECONDS = 60
STOP_SECONDS = 10


class Engine:
    """A ministack of our own, in a session of its own, so that it and its workers can be ended without touching others."""

    def __init__(self, folder: Path, program: Path) -> None:
        self.port = free_port()
        self.log_path = folder / "logs" / "ministack.log"
        self._scratch = folder / "scratch"
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def certificate(self) -> Path:
        """The engine makes it when it starts."""
        return self._scratch / "ministack-tls" / "server.crt"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the local stack is not running")
        return self._process.pid

    def environment(self) -> dict[str, str]:
        """What a client of it needs. Nothing of the machine's own AWS settings comes through."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        return inherited | {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_CA_BUNDLE": str(self.certificate),
            # The functions inherit this, and rustls reads it.
            "SSL_CERT_FILE": str(self.certificate),
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            "SAM_CLI_TELEMETRY": "0",
        }

    def start(self) -> None:
        """Returns when it answers.

        Raises RuntimeError if it ends instead, or does not answer in time.
        """
        self._scratch.mkdir(parents=True)
        self._log = self.log_path.open("wb")
        settings = {
            "AUTH": "true",
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(self.port),
            "USE_SSL": "1",
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "TMPDIR": str(self._scratch),
        }
        self._process = subprocess.Popen(
            [sys.executable, str(self._program)],
            env=self.environment() | settings,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        end = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the local stack did not start: see {self.log_path}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        if not self.certificate.exists():
            return False
        try:
            trust = ssl.create_default_context(cafile=str(self.certificate))
            with urllib.request.urlopen(f"{self.url}/_ministack/health", timeout=2, context=trust) as answer:
                told = json.load(answer)
        except OSError:
            return False
        if told["auth"] != "enabled":
            raise RuntimeError("the local stack enforces no permissions")
        return True

    def stop(self) -> None:
        """Ends it and the functions' processes: first gently, then all that is left of its session."""
        if self._process is None:
            return
        session = self._process.pid
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for pid in processes.of_session(session):
            processes.kill(pid)
        self._process = None
        if self._log is not None:
            self._log.close()


def free_port() -> int:
    """A port of loopback that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
