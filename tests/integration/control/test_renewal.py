"""What the timer runs, `xds-agent renew`, against a real `xds-agent serve`: what a host keeps and gets."""

import asyncio
import datetime as dt
import os
import subprocess
import sys

import pytest
import yaml
from cryptography import x509

from tests.support.serve_process import ROOT
from tests.support.site_pki import TRUST_DOMAIN
from xds_agent.pki.issuer import host_uri

LIFE = dt.timedelta(days=30)


@pytest.fixture
def host(serve, pki, tmp_path):
    """A host whose certificate has lived `age`; `renew()` is what its timer runs."""

    class Host:
        def __init__(self, name, age):
            files = pki.host(name, now=dt.datetime.now(dt.UTC) - age)
            self.pki = tmp_path / "pki"
            self.pki.mkdir()
            for path, target in (
                (files.certificate, "host.crt"),
                (files.key, "host.key"),
                (files.ca, "ca.crt"),
            ):
                (self.pki / target).write_bytes(path.read_bytes())
            self.config = tmp_path / "node.yml"
            tls = {"certificate": "host.crt", "key": "host.key", "ca": "ca.crt", "crl": "crl.pem"}
            tls = {kind: str(self.pki / file) for kind, file in tls.items()}
            document = {
                "name": name, "trust_domain": TRUST_DOMAIN, "control": [f"127.0.0.1:{serve.grpc_port}"],
                "control_names": ["control1"], "tls": tls,
            }  # fmt: skip
            self.config.write_text(yaml.safe_dump(document))

        def content(self):
            return {path.name: path.read_bytes() for path in self.pki.iterdir()}

        def leaf(self):
            return x509.load_pem_x509_certificates((self.pki / "host.crt").read_bytes())[0]

        def renew(self):
            command = [sys.executable, "-m", "xds_agent", "renew", "--config", str(self.config)]
            env = os.environ | {"PYTHONPATH": str(ROOT)}
            return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)

    serve.start()
    return Host


def test_before_two_thirds_of_its_life_nothing_is_asked(host, serve):
    young = host("edge1", LIFE / 2)
    before = young.content()
    serve.end()
    done = young.renew()
    assert (done.returncode, done.stdout.strip(), young.content()) == (0, "not due yet", before), done.stderr


async def test_a_due_certificate_is_renewed_with_the_same_key_and_name(host, node, document, serve, pki):
    due = host("edge1", LIFE * 3 / 4)
    before, old = due.content(), due.leaf()
    done = await asyncio.to_thread(due.renew)
    assert (done.returncode, done.stdout.strip()) == (0, "renewed"), done.stderr
    fresh, after = due.leaf(), due.content()
    assert (after["host.key"], fresh.public_key()) == (before["host.key"], old.public_key())
    assert fresh.not_valid_after_utc > old.not_valid_after_utc + LIFE / 2
    names = fresh.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [host_uri(TRUST_DOMAIN, "edge1")]
    # The chain goes with it, and the revocation lists that control has now.
    assert after["host.crt"].count(b"BEGIN CERTIFICATE") == 2
    assert after["crl.pem"] == (pki.folder / "crl.pem").read_bytes()
    assert not [name for name in after if name.startswith(".")]
    # Nothing is due again, and the new certificate opens the door.
    assert (await asyncio.to_thread(due.renew)).stdout.strip() == "not due yet"
    (pki.folder / "edge1" / "host.crt").write_bytes(after["host.crt"])
    connected, _ = node("edge1"), node("edge2")
    await serve.until_active(document, "edge1")
    assert connected.holds


def test_a_revoked_host_is_refused_and_keeps_what_it_had(host, pki):
    revoked = host("edge7", LIFE * 3 / 4)
    before = revoked.content()
    pki.revoked[revoked.leaf().serial_number] = dt.datetime.now(dt.UTC)
    try:
        pki.write_crl()
        done = revoked.renew()
    finally:
        pki.revoked.clear()
        pki.write_crl()
    assert done.returncode == 1
    assert "revoked" in done.stderr
    assert revoked.content() == before


def test_an_expired_certificate_says_what_to_do(host):
    late = host("edge1", LIFE + dt.timedelta(days=1))
    before = late.content()
    done = late.renew()
    assert done.returncode == 1
    assert "expired on" in done.stderr
    assert "site.yml --tags pki" in " ".join(done.stderr.split())
    assert late.content() == before


def test_control_that_is_away_is_one_sentence(host, serve):
    alone = host("edge1", LIFE * 3 / 4)
    before = alone.content()
    serve.end()
    done = alone.renew()
    assert (done.returncode, alone.content()) == (1, before)
    assert "no control host renewed the certificate of edge1" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
