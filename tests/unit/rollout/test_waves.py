"""Waves: examples that read like the promise, and properties over any fleet and any rollout."""

import math
from datetime import timedelta
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from xds_agent.model import Host, Rollout
from xds_agent.rollout.waves import plan_waves


def host(name, cloud="aws", roles=("ingress",)):
    return Host(name=name, groups=tuple(roles), cloud=cloud)


def fleet(*names_and_clouds):
    return {name: host(name, cloud) for name, cloud in names_and_clouds}


def rollout(*waves, soak=timedelta(seconds=10), tolerate=0):
    return Rollout(waves=waves, soak=soak, tolerate=tolerate)


SITE = {
    **{f"aws{n}": host(f"aws{n}", "aws") for n in range(1, 9)},
    **{f"gcp{n}": host(f"gcp{n}", "gcp") for n in range(1, 5)},
    "out1": host("out1", "aws", ("egress",)),
}


def test_one_of_each_role_and_cloud_goes_first_and_shares_count_who_went_before():
    plan = plan_waves(rollout(1, "50%", "100%"), SITE, SITE, sick={})
    first, second, third = plan.waves
    assert sorted(first) == ["aws1", "gcp1", "out1"]
    assert len(first) + len(second) == math.ceil(len(SITE) / 2)
    assert len(third) == len(SITE) - math.ceil(len(SITE) / 2)
    assert plan.least_s == 20


def test_a_share_takes_every_cloud_in_proportion():
    plan = plan_waves(rollout("50%", "100%"), SITE, SITE, sick={})
    clouds = [SITE[name].cloud for name in plan.waves[0]]
    assert clouds.count("gcp") in (2, 3)
    assert clouds.count("aws") in (4, 5)


def test_a_host_of_two_roles_counts_for_both():
    hosts = {
        "a": host("a", roles=("ingress", "l4")),
        "b": host("b", roles=("ingress",)),
        "c": host("c", "gcp"),
    }
    assert sorted(plan_waves(rollout(1, "100%"), hosts, hosts, sick={}).waves[0]) == ["a", "c"]


def test_the_sick_one_is_named_left_out_and_freezes_nobody():
    plan = plan_waves(rollout(1, "100%"), SITE, SITE, sick={"aws1": "it is offline"})
    assert "aws1" not in {name for wave in plan.waves for name in wave}
    assert "aws2" in plan.waves[0]
    assert "aws1 is left out of the waves (it is offline) and converges later" in plan.lines()


def test_newcomers_have_nothing_to_lose_and_are_not_counted():
    plan = plan_waves(rollout(1, "100%"), SITE, SITE, sick={}, newcomers=["aws7"])
    assert sorted(plan.waves[0]) == ["aws1", "aws7", "gcp1", "out1"]


def test_how_long_it_takes_is_told_before_it_starts():
    plan = plan_waves(rollout(1, "100%"), ["aws1", "aws2"], SITE, sick={})
    assert plan.lines() == ["2 waves, 10 s of soaking in all: 1 (aws1); then 1 (aws2)"]
    assert plan_waves(rollout("100%"), SITE, SITE, sick={}).lines() == []


def test_nothing_touched_needs_no_wave():
    assert plan_waves(rollout(1, "100%"), [], SITE, sick={}).waves == ()


kinds = st.tuples(
    st.sampled_from(["aws", "gcp", "azure", None]),
    st.sets(st.sampled_from(["ingress", "egress", "l4", "control"]), min_size=1, max_size=3),
)
fleets = st.lists(kinds, max_size=40).map(
    lambda found: {f"h{n:02}": host(f"h{n:02}", cloud, roles) for n, (cloud, roles) in enumerate(found)}
)
sizes = st.one_of(st.integers(1, 5), st.integers(1, 99).map(lambda share: f"{share}%"))
rollouts = st.lists(sizes, max_size=4).map(lambda waves: rollout(*waves, "100%"))


@settings(max_examples=300)
@given(fleets, rollouts, st.data())
def test_everybody_is_in_exactly_one_wave_or_left_out(hosts, plan_of, data):
    names = sorted(hosts)
    touched = data.draw(st.sets(st.sampled_from(names)) if names else st.just(set()))
    sick = dict.fromkeys(data.draw(st.sets(st.sampled_from(names))) if names else (), "ill")
    newcomers = data.draw(st.sets(st.sampled_from(names)) if names else st.just(set()))
    plan = plan_waves(plan_of, touched, hosts, sick=sick, newcomers=newcomers)
    in_waves = [name for wave in plan.waves for name in wave]
    assert len(in_waves) == len(set(in_waves))
    assert set(in_waves) | set(plan.left_out) == touched
    assert set(plan.left_out) == touched & set(sick)
    assert all(plan.waves)
    fresh = newcomers & touched - set(sick)
    assert fresh <= set(plan.waves[0] if plan.waves else ())
    assert plan == plan_waves(plan_of, sorted(touched, reverse=True), hosts, sick=sick, newcomers=newcomers)


@settings(max_examples=200)
@given(fleets, rollouts)
def test_no_wave_goes_beyond_its_size(hosts, plan_of):
    """The first wave is its share of all, no more; or its number of each kind, no more of any."""
    plan = plan_waves(plan_of, hosts, hosts, sick={})
    first = plan_of.waves[0]
    if not plan.waves:
        return
    wave = plan.waves[0]
    if isinstance(first, str):
        assert len(wave) == math.ceil(Fraction(first[:-1]) * len(hosts) / 100)
        return
    for role in ("ingress", "egress", "l4"):
        for cloud in ("aws", "gcp", "azure", None):
            of_kind = [n for n, h in hosts.items() if role in h.roles and h.cloud == cloud]
            assert len(set(of_kind) & set(wave)) >= min(first, len(of_kind))
    assert len(wave) <= first * 4 * 4
