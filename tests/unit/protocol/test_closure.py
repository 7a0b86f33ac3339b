"""Closure kept up step by step says what a look at the whole set says."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.xds_resources import cluster, endpoints, listener, routes, secret
from xds_agent.protocol.closure import Closure
from xds_agent.snapshot.resource import TYPES, Resource

NAMES = ["a", "b", "c"]
name = st.sampled_from(NAMES)
resource = st.one_of(
    st.builds(cluster, name, secret=st.sampled_from(["", *NAMES])),
    st.builds(lambda n: endpoints(n, 1), name),
    st.builds(lambda n: routes(n, "a"), name),
    st.builds(secret, name),
    st.builds(lambda n, r, s: listener(n, r, secret=s), name, name, st.sampled_from(["", *NAMES])),
)


@settings(max_examples=150)
@given(st.lists(st.tuples(resource, st.booleans(), st.booleans()), max_size=25))
def test_steps_and_the_whole_agree(steps: list[tuple[Resource, bool, bool]]):
    staged: dict[str, dict[str, Resource]] = {t: {} for t in TYPES}
    closure = Closure()
    for item, present, look in steps:
        before = staged[item.type_url].pop(item.name, None)
        if before is not None:
            closure.remove(before)
        if present:
            staged[item.type_url][item.name] = item
            closure.add(item)
        if look:
            assert closure.problem(staged) == Closure().problem(staged)
    assert closure.problem(staged) == Closure().problem(staged)
