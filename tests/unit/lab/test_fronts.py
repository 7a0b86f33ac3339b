"""Balancers of simulated clouds as rules of nftables, and what becomes of answers to their health checks."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.fabric import fronts
from lab.fabric.checks import Verdict
from lab.fabric.filter import Ways, filter_of
from lab.fabric.fronts import Front, Target, broken, marked, marks, taken, translated
from lab.fabric.routes import MARK, Asked, Probe

CHECK = Probe("35.191.0.9", 8082, "/healthz", 5, 2, healthy_after=3)
ONE, OTHER = Target("10.150.68.5", 443), Target("10.150.68.6", 8443)
REWRITES = Front(
    "198.18.0.7", "tcp", 443, ("0.0.0.0/0",), (ONE, OTHER), CHECK,
    keeps_destination=False, hash_by="flow", last_resort=False, breaks_flows=True,
)  # fmt: skip
KEEPS = replace(REWRITES, address="198.18.128.1", keeps_destination=True, breaks_flows=False)
DATAGRAMS = replace(KEEPS, protocol="udp", breaks_flows=True)
WELL: set[Asked] = {(CHECK, ONE.address), (CHECK, OTHER.address)}
ARRIVES = 'iifname { "clients" }'


def test_new_flows_go_to_those_who_are_well_and_as_a_last_resort_to_all_where_the_cloud_does_so() -> None:
    assert taken(REWRITES, WELL) == (ONE, OTHER)
    assert taken(REWRITES, {(CHECK, OTHER.address)}) == (OTHER,)
    assert taken(REWRITES, ()) == () and taken(replace(REWRITES, last_resort=True), ()) == (ONE, OTHER)
    assert taken(replace(REWRITES, probe=None), ()) == (ONE, OTHER)
    assert taken(replace(REWRITES, sources=()), WELL) == (), "whom its own rules let in"


def test_where_the_destination_is_rewritten_a_flow_is_translated_by_its_hash() -> None:
    [rule] = translated([REWRITES, KEEPS], arrives=ARRIVES, well=WELL)
    assert rule == (
        f"{ARRIVES} ip daddr 198.18.0.7 tcp dport 443 dnat ip to "
        "jhash ip saddr . tcp sport . ip daddr . tcp dport mod 2 seed 0x6d70 "
        "map { 0 : 10.150.68.5 . 443, 1 : 10.150.68.6 . 8443 }"
    )
    by_client = replace(REWRITES, hash_by="client", sources=("203.0.113.0/24",))
    [rule] = translated([by_client], arrives=ARRIVES, well=WELL)
    assert "ip saddr { 203.0.113.0/24 } ip daddr" in rule and "jhash ip saddr . ip daddr mod" in rule


def test_where_the_destination_stays_a_flow_is_marked_once_and_its_mark_has_a_route() -> None:
    chosen, carried = marked([REWRITES, KEEPS], arrives=ARRIVES, well=WELL)
    assert "ct mark == 0 ct state new ct mark set jhash" in chosen and "dnat" not in chosen
    assert carried == f"{ARRIVES} ip daddr {{ 198.18.128.1 }} meta mark set ct mark"
    assert marks([REWRITES, KEEPS]) == {0x4D964405: ONE.address, 0x4D964406: OTHER.address}
    assert all(number in fronts.tables(150) for number in marks([KEEPS]))


def test_datagrams_leave_a_target_that_is_unwell_and_connections_only_where_the_cloud_ends_them() -> None:
    rule, _ = marked([DATAGRAMS], arrives=ARRIVES, well={(CHECK, ONE.address)})
    assert "ct mark != { 0x4d964405 } ct mark set" in rule
    assert list(broken([REWRITES, KEEPS], {(CHECK, ONE.address)})) == [(REWRITES, OTHER)]


@given(st.lists(st.booleans(), max_size=40))
def test_a_verdict_changes_after_as_many_answers_in_a_row_as_the_check_says(answers: list[bool]) -> None:
    """Against a plain count of the last answers; the first one of all decides at once."""
    verdict, well = Verdict(), False
    for at, good in enumerate(answers):
        verdict.take(good, CHECK)
        last = answers[max(0, at + 1 - (CHECK.healthy_after if good else CHECK.unhealthy_after)) : at + 1]
        if at == 0:
            well = good
        elif good != well and len(last) == (CHECK.healthy_after if good else CHECK.unhealthy_after):
            well = good if set(last) == {good} else well
        assert verdict.well == well


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0 or not shutil.which("nft"), reason="nft asks the kernel, as root")
def test_the_kernel_takes_it() -> None:
    ways = Ways(
        public={}, outbound={}, services={}, outside="clients", ranges=("10.150.64.0-10.150.255.255",),
        mark=MARK,
        fronts=(REWRITES, KEEPS, DATAGRAMS), well=WELL,
    )  # fmt: skip
    ranges = ("10.150.64.0", "10.150.255.255")
    text = filter_of("test-fronts", machines=[], bridges=["podman1"], ranges=ranges, ways=ways)
    done = subprocess.run(["nft", "-c", "-f", "-"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
