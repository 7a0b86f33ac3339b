"""What decides about the maps beside the revision: next hops, health of reals, the end of timed denials."""

from __future__ import annotations

import time
from collections.abc import Mapping

from xds_agent.node.datapath.wanted import Address, RealOf, Wanted
from xds_agent.node.datapath.ways import Ways
from xds_agent.node.probing import Prober


class Surroundings:
    """As the maps were last written by. `down`: reals whose check found them ill, or that never answered."""

    def __init__(self, prober: Prober) -> None:
        self.macs: dict[Address, bytes] = {}
        self.down: frozenset[RealOf] = frozenset()
        self._prober = prober
        self._astray: dict[RealOf, str] = {}
        self._written: object = None
        # Next hops that nobody knows the MAC of: almost always none.
        self._silent: frozenset[Address] = frozenset()

    def take(self, wanted: Wanted, ways: Ways) -> object:
        """What the maps are to be written by, from here on; `written` once they are."""
        self.macs, self._silent, self.down = dict(ways.macs), ways.silent, self.unhealthy(wanted)
        self._astray, self._written = ways.astray(wanted), None
        return self._inputs(wanted, self.down, self._astray)

    def written(self, inputs: object) -> None:
        """The maps are as `take` said: what changed meanwhile is seen as different."""
        self._written = inputs

    def outdated(self) -> None:
        """The maps have to be written again, whatever may be the same."""
        self._written = None

    @property
    def out(self) -> frozenset[RealOf]:
        """Reals to which no ring may lead."""
        return self.down | self._astray.keys()

    def changed(self, wanted: Wanted, ways: Ways) -> bool:
        """Whether the maps have to be written again."""
        self.macs, self._silent = dict(ways.macs), ways.silent
        return self._inputs(wanted, self.unhealthy(wanted), ways.astray(wanted)) != self._written

    def unhealthy(self, wanted: Wanted) -> frozenset[RealOf]:
        """Reals that their check found ill, or that never answered it though asked often enough; one of which
        nothing is known yet is what it was."""
        found = set()
        for name, key, check in wanted.probed:
            tally = self._prober.result(check).tally
            was = tally.healthy is None and (name, key) in self.down
            if tally.healthy is False or tally.silent or was:
                found.add((name, key))
        return frozenset(found)

    def why_down(self, wanted: Wanted) -> dict[RealOf, str]:
        """Real -> words, for those that get nothing."""
        found: dict[RealOf, str] = dict(self._astray)
        for name, key, check in wanted.probed if self.down else ():
            if (name, key) in self.down and (name, key) not in found:
                found[name, key] = self._prober.result(check).tally.words
        for one in wanted.services.values() if self._silent else ():
            for real in one.reals:
                who = one.name, real.key
                if who not in found and one.forward != "echo" and real.key.address in self._silent:
                    found[who] = "its next hop does not answer"
        return found

    def _inputs(self, wanted: Wanted, down: frozenset[RealOf], astray: Mapping[RealOf, str]) -> object:
        now = time.time()
        timed = tuple(one for one in wanted.timed if one[1] > now)
        return dict(self.macs), down, dict(astray), timed
