"""Does a change lose anything? Steady load on a real Envoy through a thousand changes, twice.

HTTP/1.1 (kept connections, and a new one for each request), HTTP/2, gRPC streams and TCP, all through what
the compiler makes, while clusters are swapped under the same route, renamed, added, removed and changed in
place, endpoints are replaced whole, certificates rotate, and names and filter chains come and go. Besides, 50
streams and connections stay open for the whole run, many times the drain time. Lost is a request that failed
and a connection that ended, since none of these changes is announced to close one.

First the node agent leads its Envoy, over control and both hops; then the same Envoy and the same load meet a
type-ordered push, which sends everything at once and waits for nothing. A request is an HTTP request, or a
message that came back on a stream.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import uvloop

from tests.support.echoes import Echoes
from tests.support.load import Load, Tally
from tests.support.site_pki import SitePki
from tests.support.swapping_site import SwappingSite
from tests.support.swaps import Led, Unled, drive

NAME = "swap_loss"
GOALS = {"requests": (">=", 100_000.0), "changes": (">=", 1000.0), "lost": ("==", 0.0)}
HELD = 50


def measure(*, quick: bool = False) -> dict[str, float]:
    """Counts. `--quick` makes a tenth of it, and its goals are a full run's."""
    return uvloop.run(_measure(changes=100, requests=10_000) if quick else _measure(1000, 100_000))


async def _measure(changes: int, requests: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="mpb-") as name:
        folder = Path(name)
        pki = SitePki(folder / "pki")
        async with Echoes() as echoes:
            site = SwappingSite(echoes.ports)
            async with Led(folder / "led", pki) as led:
                await led.apply(site.snapshot)
                tally, made = await _loaded(led, site, changes, requests)
            other = SwappingSite(echoes.ports)
            async with Unled(folder / "unled", pki, other.snapshot) as unled:
                ordered, _ = await _loaded(unled, other, changes, requests)
    for words in tally.words[:10]:
        print(f"lost: {words}")
    return {
        "requests": tally.requests,
        "changes": made,
        "lost": tally.lost.total(),
        "lost_type_ordered": ordered.lost.total(),
        "requests_type_ordered": ordered.requests,
        "held_streams": HELD,
        **{f"requests_{kind}": tally.answered[kind] for kind in ("http1", "fresh", "http2", "grpc", "tcp")},
    }


async def _loaded(edge: Led | Unled, site: SwappingSite, changes: int, requests: int) -> tuple[Tally, int]:
    load = Load(site.doors)
    load.start(keep_alive=3, fresh=1, http2=2, streams=2, tcp=2, held=HELD)
    await load.warm()
    return await drive(edge, site, load, changes=changes, requests=requests, pause_s=0.02)
