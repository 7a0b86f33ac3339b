"""A hypothesis state machine of random clients and publishes, against a small model of the specification.

The model knows only what a client that believes every answer would hold, and what the specification lets it
expect; the core may send more than needed only where a rule says so.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.fake_envoy import FakeEnvoy, Wire
from tests.support.xds_resources import endpoints, routes, secret
from xds_agent.protocol.boundary import Method
from xds_agent.protocol.control import ControlCore
from xds_agent.snapshot.resource import ENDPOINTS, ROUTES, SECRET, Resource, Snapshot

NAMES = ["a", "b", "c", "d"]
MAKERS = {
    ENDPOINTS: lambda name, n: endpoints(name, n),
    ROUTES: lambda name, n: routes(name, f"c{n}"),
    SECRET: lambda name, n: secret(name, f"s{n}"),
}
kinds = st.sampled_from(list(MAKERS))
names = st.lists(st.sampled_from(NAMES), max_size=3, unique=True)


class Specification:
    """What a client of one type is subscribed to and holds. Nothing of how the core works is in here."""

    def __init__(self) -> None:
        self.asked = self.named = self.wildcard = False
        self.names: set[str] = set()
        self.held: dict[str, str] = {}

    def delta(self, subscribe: list[str], unsubscribe: list[str]) -> set[str]:
        """Apply a request; returns names whose answer is owed even if unchanged (rules 9 and 10)."""
        if not self.asked and not subscribe:
            self.wildcard = True
        self.asked, self.named = True, self.named or bool(subscribe)
        self.wildcard = (self.wildcard or "*" in subscribe) and "*" not in unsubscribe
        self.names = (self.names | set(subscribe)) - set(unsubscribe) - {"*"}
        if not self.wildcard:
            self.held = {name: version for name, version in self.held.items() if name in self.names}
        return (set(subscribe) - set(unsubscribe) - {"*"}) | (
            set(unsubscribe) - {"*"} if self.wildcard else set()
        )

    def expected(self, view: dict[str, str]) -> dict[str, str]:
        return {name: version for name, version in view.items() if self.wildcard or name in self.names}


class DeltaClient(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.core = ControlCore(lambda outcome: None)
        self.wire = Wire(self.core)
        self.view: dict[str, dict[str, str]] = {kind: {} for kind in MAKERS}
        self.resources: dict[tuple[str, str], Resource] = {}
        self.rejected: dict[tuple[str, str], str] = {}
        self.wire.do(self.core.publish({"edge1": Snapshot.of(())}))
        self.connect()

    def connect(self) -> None:
        self.client = FakeEnvoy(self.wire, method=Method.DELTA)
        self.model = {kind: Specification() for kind in MAKERS}

    @rule(kind=kinds, subscribe=names, unsubscribe=names, star=st.booleans(), unstar=st.booleans())
    def request(self, kind, subscribe, unsubscribe, star, unstar) -> None:
        model = self.model[kind]
        subscribe = subscribe + ["*"] * star
        unsubscribe = [name for name in unsubscribe if name not in subscribe] + ["*"] * (unstar and not star)
        if not model.asked:
            unsubscribe = []
        owed = model.delta(subscribe, unsubscribe)
        self.client.request(kind, *subscribe, unsubscribe=unsubscribe)
        told = self.listen()
        missing = owed - told.get(kind, set())
        assert not missing, f"never answered: {missing}"

    @rule(kind=kinds, name=st.sampled_from(NAMES), number=st.integers(0, 3))
    def publish(self, kind, name, number) -> None:
        if number:
            self.resources[kind, name] = MAKERS[kind](name, number)
            self.view[kind][name] = self.resources[kind, name].version
        else:
            self.resources.pop((kind, name), None)
            self.view[kind].pop(name, None)
        before = {k: dict(m.held) for k, m in self.model.items()}
        self.wire.do(self.core.publish({"edge1": Snapshot.of(self.resources.values())}))
        for other, told in self.listen().items():
            # A publish sends what changed, to those who hold something else, and nothing more (rule 4).
            for said in told:
                assert before[other].get(said) != self.view[other].get(said)

    @precondition(lambda self: any(model.asked for model in self.model.values()))
    @rule(data=st.data())
    def reconnect(self, data) -> None:
        """A new stream with what is held: only what differs comes (rule 20)."""
        old = self.model
        self.wire.hang_up(self.client)
        self.connect()
        for kind, before in old.items():
            if not before.asked:
                continue
            subscribe = sorted(before.names) + ["*"] * before.wildcard
            if not subscribe:
                continue
            model = self.model[kind]
            model.held = dict(before.held)
            model.delta(subscribe, [])
            differs = {
                name
                for name in model.held.keys() | model.expected(self.view[kind]).keys() | model.names
                if model.held.get(name) != self.view[kind].get(name) or name not in self.view[kind]
            }
            self.client.request(kind, *subscribe, versions=model.held)
            assert self.listen().get(kind, set()) <= differs

    def listen(self) -> dict[str, set[str]]:
        """Take every response, acknowledge or refuse at random turns; returns the names told per type."""
        told: dict[str, set[str]] = {}
        while self.client.inbox:
            response = self.client.take()
            held = self.model[response.type_url].held
            held.update(response.resources)
            for name in response.removed:
                held.pop(name, None)
            told.setdefault(response.type_url, set()).update([*response.resources, *response.removed])
            if int(response.nonce) % 3:
                self.client.ack()
            else:
                self.client.nack("no")
        return told

    @invariant()
    def holds_what_it_may_expect(self) -> None:
        if not hasattr(self, "model"):
            return
        for kind, model in self.model.items():
            assert model.held == model.expected(self.view[kind]), kind


TestDeltaClient = DeltaClient.TestCase
TestDeltaClient.settings = settings(max_examples=60, stateful_step_count=40)
