"""The whole site on the lab: what the README promises, and what happens when hosts and agents die."""

from __future__ import annotations

import http.client
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab import client
from lab.client import Identity
from tests.lab.conftest import Lab
from tests.support.podman import patiently

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.timeout(1800)]

SHOP = "shop.example.com"
PROMISED = (
    "redirects", "TLS", "a partner", "no certificate", "strict Host", "gRPC", "WebSocket", "TCP",
    "weighted split", "failover",
)  # fmt: skip
HALVES = """
routes:
  - name: {name}
    split: {{shop: 50, shop-v2: 50}}
"""


def changed(output: str) -> dict[str, int]:
    """Host -> number of changed tasks, from a playbook's recap."""
    return {
        host: int(number) for host, number in re.findall(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)", output, re.M)
    }


def by_row(rows: list[dict[str, object]]) -> dict[tuple[object, object], dict[str, object]]:
    return {(row["check"], row["proxy"]): row for row in rows}


def eventually(holds: Callable[[], bool], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.3)


def test_every_request_met_what_it_should(lab: Lab) -> None:
    rows = lab.said["traffic"]
    assert [row for row in rows if not row["as_expected"]] == []
    checks = {row["check"] for row in rows}
    for promised in PROMISED:
        assert any(promised in check for check in checks), promised
    assert {row["proxy"] for row in rows} == {"edge-aws1", "edge-aws2", "edge-gcp1", "edge-azure1"}
    assert lab.code == 0


def test_a_second_run_changes_nothing(lab: Lab) -> None:
    done = lab.checkout.playbook("site.yml")
    assert done.returncode == 0, done.stdout[-5000:]
    counts = changed(done.stdout)
    assert len(counts) >= 10 and set(counts.values()) == {0}, done.stdout[-8000:]


def test_a_backend_in_another_cloud_sees_the_proxys_own_address(lab: Lab) -> None:
    row = by_row(lab.said["traffic"])["source address", "edge-gcp1"]
    # Of whichever cloud: a proxy goes round backends that were slow to answer their checks.
    address = re.escape(lab.host("edge-gcp1")["address"])
    assert re.fullmatch(rf"backend-\w+ saw {address}", str(row["met"])), row


@contextmanager
def overlay(lab: Lab, text: str) -> Iterator[Path]:
    """An overlay of the edge folder for as long as the block runs."""
    path = lab.checkout.root / "inventories/lab/edge/overlays/test.yml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    try:
        yield path
    finally:
        path.unlink()


def v2_share(lab: Lab) -> list[int]:
    """Of 1,000 requests to /api, how many each proxy sent to the second version."""
    rows = lab.traffic("weighted split")
    return [int(found[1]) if (found := re.search(r"(\d+) v2", str(row["met"]))) else 0 for row in rows]


def test_an_edit_shows_in_words_and_is_live_after_routes(lab: Lab) -> None:
    with overlay(lab, HALVES.format(name="shop-api")):
        shown = lab.checkout.playbook("playbooks/routes.yml", "--check", "--diff")
        assert shown.returncode == 0, shown.stdout[-5000:]
        assert "/api" in shown.stdout and "50" in shown.stdout
        assert "connections closed" in shown.stdout
        assert '"@type"' not in shown.stdout, "a diff of JSON is not for people"
        assert max(v2_share(lab)) < 200, "check mode changed what is live"

        applied = lab.checkout.playbook("playbooks/routes.yml")
        assert applied.returncode == 0, applied.stdout[-5000:]
        assert sum(changed(applied.stdout).values()) == 1
        assert all(400 < share < 600 for share in v2_share(lab))

    assert lab.checkout.playbook("playbooks/routes.yml").returncode == 0
    assert all(20 <= share <= 85 for share in v2_share(lab))


def test_a_mistake_is_named_with_its_line_and_nothing_changes(lab: Lab) -> None:
    with overlay(lab, "services:\n  - name: shop\n    listen: {address: edge, port: 99999}\n") as path:
        refused = lab.checkout.playbook("playbooks/routes.yml")
        words = refused.stdout + refused.stderr
        assert refused.returncode != 0
        assert "99999" in words and f"{path.name}:3" in words
    assert [row for row in lab.traffic("TLS", "weighted") if not row["as_expected"]] == []


def test_a_host_left_out_by_limit_is_not_removed(lab: Lab) -> None:
    refused = lab.checkout.playbook("playbooks/routes.yml", "--limit", "edge-aws1")
    assert refused.returncode != 0
    assert "control" in refused.stdout + refused.stderr


def _serves(lab: Lab, host: str) -> bool:
    trust = Identity(lab.checkout.root / ".lab/pki/root.crt")
    try:
        return client.get(lab.host(host)["address"], 443, SHOP, identity=trust).status == 200
    except (OSError, http.client.HTTPException):
        return False


def test_a_proxy_rebooted_without_control_serves_what_it_had(lab: Lab) -> None:
    control, edge = lab.host("control1")["container"], lab.host("edge-gcp1")["container"]
    patiently("stop", "--time", "5", control)
    try:
        patiently("restart", "--time", "5", edge)
        eventually(lambda: _serves(lab, "edge-gcp1"), "edge-gcp1 serves after its reboot", 180)
        rows = [row for row in lab.traffic("TLS", "mTLS", "strict", "gRPC") if row["proxy"] == "edge-gcp1"]
        assert len(rows) >= 6 and [row for row in rows if not row["as_expected"]] == []
    finally:
        lab.checkout.must("script/lab", "up", "--bare")
    eventually(lambda: lab.checkout.playbook("playbooks/routes.yml").returncode == 0, "control answers again")


def test_agents_killed_during_a_push_lose_no_request(lab: Lab) -> None:
    trust = Identity(lab.checkout.root / ".lab/pki/root.crt")
    met: list[str] = []
    over = threading.Event()

    def ask() -> None:
        address = lab.host("edge-aws1")["address"]
        try:
            with client.Connection(address, 443, sni=SHOP, identity=trust) as connection:
                while not over.wait(0.01):
                    met.append(str(connection.get("/api", SHOP).status))
        except (OSError, http.client.HTTPException) as problem:
            met.append(repr(problem))

    def kill() -> None:
        while not over.wait(0.4):
            for host in ("edge-aws1", "edge-gcp1"):
                lab.checkout.run(
                    "script/lab", "ssh", host, "systemctl", "kill", "--signal=KILL", "xds-agent-node"
                )

    asking, killing = threading.Thread(target=ask), threading.Thread(target=kill)
    asking.start()
    with overlay(lab, HALVES.format(name="shop-api")):
        killing.start()
        lab.checkout.playbook("playbooks/routes.yml")
        over.set()
        asking.join()
        killing.join()
        assert len(met) > 50 and set(met) == {"200"}
        for host in ("edge-aws1", "edge-gcp1"):
            lab.on(host, "systemctl", "reset-failed", "xds-agent-node")
            lab.on(host, "systemctl", "start", "xds-agent-node")
        # Control takes a change back if a proxy it has reached is offline too long, as killed ones may be.
        again = ("playbooks/routes.yml", "-e", "force=true")
        eventually(lambda: lab.checkout.playbook(*again).returncode == 0, "the edit is live after all")
        eventually(
            lambda: all(400 < share < 600 for share in v2_share(lab)), "every proxy has the new split", 90
        )
    assert lab.checkout.playbook("playbooks/routes.yml").returncode == 0
    assert all(20 <= share <= 85 for share in v2_share(lab))
