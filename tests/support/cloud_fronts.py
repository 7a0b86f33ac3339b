"""What clients of the lab meet at the public addresses that its simulated clouds handed out."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dns.exception

from lab import balancers, clients, from_pulumi, names, place
from lab.checks import SHOP, Site
from lab.place import HostSpec
from tests.support.checkout import Checkout
from tests.support.packets import SILENCE, THROUGH, Question, met
from tests.support.waiting import eventually

# Nobody listens there on a balancer.
CLOSED = 8443
# As the lab's site file says.
TTL_S = 10
CHECK = "aws:route53/healthCheck:HealthCheck"
RULE = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
ASK_SOURCE = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=15) as connection:
    print(connection.recv(64).decode(), end="")
"""


class Fronts:
    """The balancers of a lab that clouds made, its clients, and what the clouds hold."""

    def __init__(self, checkout: Checkout) -> None:
        self._checkout = checkout
        plain = place.load(checkout.root / "inventories" / "lab" / "hosts.yml", checkout.root)
        self.here = from_pulumi.from_stack(plain)
        self.site = Site(self.here, checkout.root / ".lab" / "pki" / "root.crt")

    def addresses(self, cloud: str) -> list[str]:
        return [one.address for one in self.here.balancers if one.cloud == cloud]

    def lead(self, *addresses: str, port: int, word: str) -> bool:
        """Whether a client's connection to each meets what ``word`` says."""
        own = clients.address(self.here, clients.ORDINARY)
        asked: dict[Question, str] = {(own, address, port): word for address in addresses}
        return met(["ip", "netns", "exec", clients.namespace(self.here)], asked) == asked

    def check(self) -> None:
        """Addresses lead clients to edges, which see the clients' own addresses; other ports lead nowhere."""
        everyone = self.here.balancers
        assert {one.cloud for one in everyone} == {"aws", "gcp", "azure"}
        for one in everyone:
            eventually(lambda at=one: self._leads(at), f"{one.name} leads to an edge")  # type: ignore[misc]
        assert self.lead(*(one.address for one in everyone), port=CLOSED, word=SILENCE)

    def check_refused_probe(self) -> None:
        """A target whose rules do not let the health check in is out, though it serves; and then in again."""
        [address] = self.addresses("azure")
        balancer = self._held("azure-native:network:LoadBalancer", "/lab-edge-eastus")
        self._change(balancer, "probes", [{**balancer["inputs"]["probes"][0], "intervalInSeconds": 1}])
        group = self._held("azure-native:network:NetworkSecurityGroup", "/lab-ingress")
        rules = group["inputs"]["securityRules"]
        refused = [rule | {"access": "Deny"} if rule["name"] == "probes-ingress" else rule for rule in rules]
        assert refused != rules
        self._change(group, "securityRules", refused)
        eventually(lambda: self.lead(address, port=443, word=SILENCE), "it is left out")
        self._change(group, "securityRules", rules)
        eventually(lambda: self.lead(address, port=443, word=THROUGH), "it is taken back")

    def check_sources(self) -> None:
        """What hosts send leaves by the addresses that the clouds say, and without one nothing leaves."""
        said = json.loads(self._simcloud("fabric"))
        named = {host.address: host.name for host in self.here.hosts}
        public = {named[private]: address for private, address in said["outbound"].items()}
        inner = "backend-azure-eastus-1"
        with self._told_its_source() as port:
            asked = {name: self._source_of(name, port) for name in public}
            assert asked == public
            subnet = self._held("azure-native:network:Subnet", "/subnets/inner-1")
            self._change(subnet, "natGateway", None)
            eventually(lambda: not self._source_of(inner, port), "no gateway, no way out")
            self._change(subnet, "natGateway", subnet["inputs"]["natGateway"])
            eventually(lambda: self._source_of(inner, port) == public[inner], "a gateway again")

    @contextmanager
    def _told_its_source(self) -> Iterator[int]:
        """A server among the clients that tells each who connects by which address it came; its port."""
        listener = clients.inside(self.here, lambda: socket.create_server(("0.0.0.0", 0)))

        def serve() -> None:
            while True:
                try:
                    connection, (address, _) = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(address.encode())

        server = threading.Thread(target=serve)
        server.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            server.join()

    def _source_of(self, host: str, port: int) -> str:
        own = clients.address(self.here, clients.ORDINARY)
        ask = ["python3", "-c", ASK_SOURCE, own, str(port)]
        container = self.here.host(host).container
        asked = subprocess.run(
            ["podman", "exec", container, *ask], capture_output=True, text=True, check=False
        )
        return asked.stdout

    def check_dead_edge(self, dead: str) -> None:
        """No request of a client goes to an edge that has died, once the balancer knows."""
        seen: list[set[str]] = []

        def spared() -> bool:
            seen.append({balancers.served_by(one, self.site) for one in self.addresses("aws") * 20})
            return not seen[-1] & {dead, ""}

        eventually(spared, f"{dead} is left out; seen: {seen}")

    def check_name(self) -> None:
        """Clients are sent to the region that is for them as long as it answers, and then to another."""
        addresses = self.addresses("aws")
        eventually(lambda: self._named(addresses) == set(addresses), "the name leads to the nearest")
        assert names.resolved(self.here, SHOP, addresses[0])[1] == TTL_S
        checks = [one for one in self._records(CHECK) if one["inputs"].get("ipAddress") in addresses]
        assert len(checks) == len(addresses)
        for check in checks:
            self._change(check, "requestInterval", 1)
        [balancer] = self._records("aws:lb/loadBalancer:LoadBalancer")
        [group] = balancer["inputs"]["securityGroups"]
        [rule] = [
            one
            for one in self._records(RULE)
            if one["inputs"]["securityGroupId"] == group and one["inputs"]["fromPort"] == 443
        ]
        self._change(rule, "cidrIpv4", "192.0.2.0/24")
        elsewhere = self.addresses("gcp") + self.addresses("azure")
        eventually(lambda: self._named(addresses) <= set(elsewhere), "the name leaves")
        self._change(rule, "cidrIpv4", rule["inputs"]["cidrIpv4"])
        eventually(lambda: self._named(addresses) == set(addresses), "it comes back")

    def _named(self, near: list[str]) -> set[str]:
        """Where clients near these are sent; "silence" where DNS did not answer."""
        try:
            return set(names.resolved(self.here, SHOP, near[0])[0])
        except (OSError, dns.exception.DNSException):
            return {"silence"}

    def _leads(self, front: HostSpec) -> bool:
        try:
            return balancers.tls(front, self.site).as_expected
        except (OSError, http.client.HTTPException):
            return False

    def _held(self, token: str, ending: str) -> dict[str, Any]:
        [found] = [one for one in self._records(token) if one["id"].endswith(ending)]
        return found

    def _records(self, token: str) -> list[dict[str, Any]]:
        records = map(json.loads, self._simcloud("list", "--json").splitlines())
        return [dict(one) for one in records if one["token"] == token]

    def _change(self, record: dict[str, Any], key: str, value: object) -> None:
        self._simcloud("change", record["id"], key, json.dumps(value))

    def _simcloud(self, *words: str) -> str:
        world = str(self.here.state / "pulumi" / "world")
        command = ("pulumi/.venv/bin/python", "-m", "simcloud", "--world", world, *words)
        return self._checkout.must(*command, PYTHONPATH="pulumi")
