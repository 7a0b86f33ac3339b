"""A real ACME server (Let's Encrypt's Pebble), built from the pinned Go module beside this file."""

from __future__ import annotations

import contextlib
import datetime as dt
import http.client
import json
import os
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.ports import free_port

SOURCE = Path(__file__).parent / "pebble"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "marchproxy"


def pem_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def pebble_binary() -> Path:
    """Built once per machine, outside the checkout; the test is skipped where that cannot be done."""
    go = shutil.which("go") or shutil.which("/usr/local/go/bin/go")
    if go is None:
        pytest.skip("Pebble is built with Go 1.24 or later, which is not installed")
    target = CACHE / "pebble-2.8.0"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        module = "github.com/letsencrypt/pebble/v2/cmd/pebble"
        # Under a name of its own: another worker may be building it too.
        fresh = Path(f"{target}.{os.getpid()}")
        build = subprocess.run([go, "build", "-o", fresh, module], cwd=SOURCE, capture_output=True, text=True)
        if build.returncode:
            pytest.skip(f"Pebble does not build here: {build.stderr.strip()[-200:]}")
        fresh.replace(target)
    return target


def self_signed(directory: Path) -> Path:
    """The ACME server's own TLS certificate for localhost; it is its own CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (directory / "server.key").write_bytes(pem_key(key))
    path = directory / "server.crt"
    path.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    return path


@contextlib.contextmanager
def pebble(folder: Path, *, http_port: int, refused_nonces: int = 5) -> Iterator[tuple[str, Path]]:
    """Run it, asking for challenges on `http_port`; yields its directory and the CA of its own TLS.

    `refused_nonces`: per cent of the good nonces that it refuses, so that clients learn to ask again.
    """
    binary = pebble_binary()
    folder.mkdir(parents=True, exist_ok=True)
    ca = self_signed(folder)
    port = free_port()
    config = {
        "pebble": {
            "listenAddress": f"127.0.0.1:{port}",
            "managementListenAddress": f"127.0.0.1:{free_port()}",
            "certificate": str(ca),
            "privateKey": str(folder / "server.key"),
            "httpPort": http_port,
            "tlsPort": free_port(),
            "retryAfter": {"authz": 1, "order": 1},
            "profiles": {"default": {"description": "default", "validityPeriod": 7776000}},
        }
    }
    (folder / "pebble.json").write_text(json.dumps(config))
    environment = {**os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_AUTHZREUSE": "0"}
    environment["PEBBLE_WFE_NONCEREJECT"] = str(refused_nonces)
    with (folder / "pebble.log").open("wb") as output:
        server = subprocess.Popen(
            [binary, "-config", folder / "pebble.json"], stdout=output, stderr=output, env=environment
        )
    try:
        wait_until_up(port, ca)
        yield f"https://localhost:{port}/dir", ca
    finally:
        server.terminate()
        server.wait(10)


def wait_until_up(port: int, ca: Path) -> None:
    context = ssl.create_default_context(cafile=str(ca))
    deadline = time.monotonic() + 20
    while True:
        try:
            connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=5)
            connection.request("GET", "/dir")
            connection.getresponse().read()
            connection.close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
