"""The compiled table of a ring, and its step to one, are those that Python makes: edges of mixed versions
agree on them."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xds_agent.datapath.libbpf import Unavailable
from xds_agent.datapath.maglev import SLOTS, Populate, Ring, populate
from xds_agent.datapath.maglev_program import MaglevProgram

pytestmark = pytest.mark.root

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534
RIGHTS = ("bpf", "net_admin", "perfmon")
MIXED = {number: (f"10.1.{number % 7}.{number}:80", (1, 3, 7, 100)[number % 4]) for number in range(1, 41)}
# Made by the first release that had rings.
GOLDEN = "2a1189a1cea3ecbfbddfff9182080798"


@pytest.fixture(scope="module")
def maglev(program: Path) -> Iterator[MaglevProgram]:
    try:
        made = MaglevProgram(program.with_name("maglev.bpf.o"))
    except Unavailable as reason:
        pytest.skip(str(reason))
    yield made
    made.close()


WEIGHTS = st.sampled_from([1, 2, 3, 7, 100, 10_000, (1 << 32) - 1])
SETS = st.dictionaries(st.integers(1, (1 << 31) - 1), WEIGHTS, max_size=40)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SETS, st.sampled_from([2, 3, 101, 1009]))
def test_it_is_the_same_table_whatever_numbers_and_weights(
    maglev: MaglevProgram, weights: dict[int, int], slots: int
) -> None:
    reals = {number: (f"10.1.0.{number}:80", weight) for number, weight in weights.items()}
    assert list(maglev(reals, slots=slots)) == populate(reals, slots=slots)


@pytest.mark.parametrize("count", [1, 2, 3, 64, 1000])
@pytest.mark.parametrize("weights", [(5,), (1, 2, 9)])
def test_of_full_size(maglev: MaglevProgram, count: int, weights: tuple[int, ...]) -> None:
    reals = {
        number: (f"[fd00::{number:x}]:443", weights[number % len(weights)]) for number in range(1, count + 1)
    }
    assert maglev(reals) == array("I", populate(reals))


def test_more_reals_than_it_has_room_for(maglev: MaglevProgram) -> None:
    """As many as there is room for by the program, one more by Python."""
    reals = {number: (f"real {number}", 1 + number % 3) for number in range(1, maglev.most + 2)}
    assert list(maglev(reals, slots=10_007)) == populate(reals, slots=10_007)
    reals.popitem()
    assert list(maglev(reals, slots=10_007)) == populate(reals, slots=10_007)


@pytest.mark.parametrize("compiled", [False, True])
def test_releases_agree(maglev: MaglevProgram, compiled: bool) -> None:
    make: Populate = maglev if compiled else populate
    assert hashlib.blake2b(array("I", make(MIXED)), digest_size=16).hexdigest() == GOLDEN


REALS_OF_SLOTS = st.sampled_from([0, 1, 2, 3, 1 << 16, (1 << 31) - 2, (1 << 31) - 1])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_step_is_the_same_whatever_moved_before(maglev: MaglevProgram, data: st.DataObject) -> None:
    """One step after another, some slots finalised between them; blocks of the program are 16 slots."""
    slots = data.draw(st.sampled_from([1, 15, 16, 17, 101]))
    tables = st.lists(REALS_OF_SLOTS, min_size=slots, max_size=slots)
    ring = Ring(data.draw(tables))
    for target in data.draw(st.lists(tables, min_size=1, max_size=4)):
        stepped = maglev.step(ring, array("I", target))
        ring.step(target)
        assert stepped.words() == ring.words() and stepped.digest() == ring.digest()
        ring.finalise(data.draw(st.sets(st.integers(0, slots - 1))))


def test_a_step_of_full_size(maglev: MaglevProgram) -> None:
    """Reals are drained, come back and get other weights; some flows end between the steps."""
    weights = [{1: 1, 2: 1, 3: 1}, {2: 1, 3: 1}, {1: 1, 2: 1, 3: 1}, {1: 9, 3: 1, 4: 2}, {}, {4: 1}]
    tables = [maglev({number: (f"real {number}", one) for number, one in each.items()}) for each in weights]
    ring = Ring(tables[0])
    for turn, target in enumerate(tables[1:], 2):
        stepped = maglev.step(ring, target)
        ring.step(target)
        # Half a mebibyte: pytest would take minutes to say where they differ.
        same = stepped.words() == ring.words()
        assert same, f"to table {turn}"
        ring.finalise(range(0, SLOTS, turn))


def test_an_object_without_them_is_unavailable(program: Path) -> None:
    with pytest.raises(Unavailable, match="is another release's: it has no populate, step"):
        MaglevProgram(program.with_name("decap.bpf.o"))


def test_the_rights_of_the_agents_unit_suffice(maglev: MaglevProgram, program: Path) -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("needs the Debian package util-linux")
    given_ = ",".join(f"+{one}" for one in RIGHTS)
    code = (
        "import sys, pathlib; from xds_agent.datapath.maglev_program import MaglevProgram;"
        "from xds_agent.datapath.maglev import Ring;"
        "maglev = MaglevProgram(pathlib.Path(sys.argv[1])); table = maglev({1: ('a', 1), 2: ('b', 1)});"
        "print(sum(maglev.step(Ring(table), table).current))"
    )
    words = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
             f"--inh-caps=-all,{given_}", f"--ambient-caps=-all,{given_}", f"--bounding-set=-all,{given_}",
             sys.executable, "-c", code, str(program.with_name("maglev.bpf.o"))]  # fmt: skip
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == sum(maglev({1: ("a", 1), 2: ("b", 1)}))
