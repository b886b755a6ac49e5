"""An AWS on loopback that takes every call by TLS and allows none: a function's first call costs what it does, and is over."""

from __future__ import annotations

import http.server
import shutil
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any

# Where distributions keep the roots that programs trust. A function on Lambda reads as many.
ROOTS = ("/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/certs/ca-certificates.crt")
DYNAMODB_REFUSES = b'{"__type":"com.amazon.coral.service#AccessDeniedException","message":"no"}'
S3_REFUSES = b"<?xml version='1.0' encoding='UTF-8'?><Error><Code>AccessDenied</Code><Message>no</Message></Error>"


class RefusingAws:
    """The server, in threads of its own until the program ends. Its keys and certificates are in the given folder."""

    def __init__(self, folder: Path) -> None:
        make_certificates(folder)
        self.trusted = folder / "trusted.crt"
        bundle = next((Path(path).read_text() for path in ROOTS if Path(path).exists()), "")
        self.trusted.write_text(bundle + (folder / "root.crt").read_text())
        self.roots = self.trusted.read_text().count("BEGIN CERTIFICATE")
        # The calls since somebody last looked.
        self._calls: list[str] = []
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(folder / "chain.crt", folder / "server.key")
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        # By name, so that the name is looked up, too.
        self.url = f"https://localhost:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def take_calls(self) -> list[str]:
        """What was called since this was last asked, in order."""
        taken, self._calls = self._calls, []
        return taken

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        aws = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def refuse(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                target = self.headers.get("X-Amz-Target")
                aws._calls.append(target.rpartition(".")[2] if target else f"S3:{self.command}")
                body = DYNAMODB_REFUSES if target else S3_REFUSES
                self.send_response(400 if target else 403)
                self.send_header("Content-Type", "application/x-amz-json-1.0" if target else "application/xml")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_DELETE = do_GET = do_HEAD = do_POST = do_PUT = refuse

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

        return Handler


def make_certificates(folder: Path) -> None:
    """A root, an issuer below it and a server's certificate, all RSA with 2048 bits, as AWS has them."""
    if shutil.which("openssl") is None:
        raise SystemExit("openssl is not there: it makes the certificates of the server that is called")
    (folder / "issuer.ext").write_text("basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign\n")
    (folder / "server.ext").write_text("subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth\n")
    new_key = ["-newkey", "rsa:2048", "-nodes"]
    openssl(folder, "req", "-x509", *new_key, "-keyout", "root.key", "-out", "root.crt", "-subj", "/CN=root", "-days", "2")
    for name, issuer in (("issuer", "root"), ("server", "issuer")):
        openssl(folder, "req", *new_key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signer = ["-CA", f"{issuer}.crt", "-CAkey", f"{issuer}.key", "-CAcreateserial", "-days", "2"]
        openssl(folder, "x509", "-req", "-in", f"{name}.csr", *signer, "-extfile", f"{name}.ext", "-out", f"{name}.crt")
    chain = (folder / "server.crt").read_text() + (folder / "issuer.crt").read_text()
    (folder / "chain.crt").write_text(chain)


def openssl(folder: Path, *arguments: str) -> None:
    """Raises SystemExit with what it says if it fails."""
    ended = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True)
    if ended.returncode != 0:
        raise SystemExit(f"openssl {arguments[0]}: {ended.stderr}")
