"""Localities, priorities, weights and maintenance."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from xds_agent.compile.endpoints import load_assignment
from xds_agent.compile.maintenance import active, drained, next_change
from xds_agent.model import Edge, Maintenance, ResolvedEndpoint, Service, Site

NOW = datetime(2026, 12, 1, 5, tzinfo=UTC)
DRAINING = 3


def _at(address: str, cloud: str = "", zone: str = "", weight: int = 1, host: str = "") -> ResolvedEndpoint:
    return ResolvedEndpoint(address, 80, cloud, "", zone, weight, False, host)


def _made(resolved: Sequence[ResolvedEndpoint], windows: Sequence[Maintenance] = (), **steering: Any) -> Any:
    service = Service.model_validate({"name": "s", "steering": steering})
    return load_assignment(service, resolved, tuple(windows))


def _priorities(message: Any) -> dict[str, int]:
    return {one.locality.region: one.priority for one in message.endpoints}


def _shares(message: Any) -> dict[tuple[str, str], int]:
    return {
        (one.locality.region, one.locality.zone): one.load_balancing_weight.value for one in message.endpoints
    }


def test_a_priority_per_cloud_in_the_order_asked_for_and_none_for_others() -> None:
    found = [_at("1", "gcp"), _at("2", "aws"), _at("3", "colo"), _at("4", "azure"), _at("5", "other")]
    made = _made(found, order=["aws", "gcp", "azure"])
    assert _priorities(made) == {"aws": 0, "gcp": 1, "azure": 2}


def test_a_cloud_without_endpoints_leaves_no_gap() -> None:
    assert _priorities(_made([_at("1", "azure"), _at("2", "gcp")], order=["aws", "gcp", "azure"])) == {
        "gcp": 0,
        "azure": 1,
    }


def test_without_an_order_all_clouds_share_by_endpoint() -> None:
    made = _made([_at("1", "aws"), _at("2", "aws", weight=2), _at("3", "gcp")])
    assert _priorities(made) == {"aws": 0, "gcp": 0}
    assert _shares(made) == {("aws", ""): 3, ("gcp", ""): 1}


def test_the_share_of_a_cloud_is_divided_among_its_zones() -> None:
    found = [_at("1", "aws", "a"), _at("2", "aws", "b"), _at("3", "aws", "b"), _at("4", "gcp")]
    shares = _shares(_made(found, mode="active-active", weights={"aws": 3, "gcp": 1}))
    assert shares[("aws", "b")] == 2 * shares[("aws", "a")]
    assert sum(share for (cloud, _), share in shares.items() if cloud == "aws") == 3 * shares[("gcp", "")]


def test_weight_zero_drains() -> None:
    made = _made([_at("1", "aws", weight=0), _at("2", "aws")])
    assert [one.health_status for one in made.endpoints[0].lb_endpoints] == [DRAINING, 0]
    made = _made([_at("1", "aws"), _at("2", "gcp")], mode="active-active", weights={"gcp": 0})
    assert {one.locality.region: one.lb_endpoints[0].health_status for one in made.endpoints} == {
        "aws": 0,
        "gcp": DRAINING,
    }


@given(st.permutations([_at(str(n), cloud, zone) for n in range(2) for cloud in "ab" for zone in "xy"]))
def test_the_order_of_endpoints_does_not_show(found: Sequence[ResolvedEndpoint]) -> None:
    expected = _made(sorted(found), order=["b"]).SerializeToString(deterministic=True)
    assert _made(found, order=["b"]).SerializeToString(deterministic=True) == expected


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(0, 1_000_000)), min_size=1
    ),
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 1_000_000)),
)
def test_envoy_can_add_up_the_weights(found: list[tuple[str, str, int]], weights: dict[str, int]) -> None:
    made = _made(
        [_at(str(n), c, z, w) for n, (c, z, w) in enumerate(found)], mode="active-active", weights=weights
    )
    shares = [one.load_balancing_weight.value for one in made.endpoints]
    assert all(share >= 1 for share in shares)
    assert sum(shares) < 2**32
    assert all(one.load_balancing_weight.value >= 1 for place in made.endpoints for one in place.lb_endpoints)


def _window(**fields: Any) -> Maintenance:
    return Maintenance.model_validate({"reason": "x", "until": NOW + timedelta(hours=1), **fields})


def test_all_that_a_window_names_must_hold() -> None:
    endpoint = _at("1", "aws", "a", host="backend1")
    assert drained(endpoint, [_window(cloud="aws")])
    assert drained(endpoint, [_window(cloud="aws", zone="a")])
    assert drained(endpoint, [_window(host="backend1")])
    assert not drained(endpoint, [_window(cloud="aws", zone="b")])
    assert not drained(endpoint, [_window(cloud="gcp"), _window(host="backend2")])


def test_windows_open_and_close_by_the_time_given() -> None:
    later = _window(cloud="aws", since=NOW + timedelta(minutes=10))
    site = Site(edge=Edge(maintenance=(later,)), hosts={})
    assert active(site, None) == ()
    assert active(site, NOW) == ()
    assert next_change(site, NOW) == later.since
    assert active(site, NOW + timedelta(minutes=10)) == (later,)
    assert next_change(site, NOW + timedelta(minutes=10)) == later.until
    assert active(site, later.until) == ()
    assert next_change(site, later.until) is None
