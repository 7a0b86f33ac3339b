"""Control's core and gRPC server alone, for bench.fanout: `python -m bench.fanout_server PKI NODES`.

Says `PORT` on a line, then makes one change for every line it reads: the endpoints of one of twenty services.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from pathlib import Path

import uvloop

from tests.support.resources import endpoints, replaced, site
from tests.support.site_pki import TRUST_DOMAIN
from xds_agent.ads.control import ServerSettings, serve
from xds_agent.protocol.control import ControlCore

SERVICES = 20
# About 1 KB, as the endpoints of a service are.
ENDPOINTS = 20


async def main(folder: str, nodes: int) -> None:
    pki = Path(folder)
    own = pki / "control1"
    core = ControlCore(on_outcome=lambda outcome: None)
    settings = ServerSettings(
        "127.0.0.1", 0, TRUST_DOMAIN, own / "host.crt", own / "host.key", pki / "ca.crt", pki / "crl.pem"
    )
    server = await serve(core, settings, on_report=lambda *said: None)
    first = site(443, {f"s{n}": range(1000, 1000 + ENDPOINTS) for n in range(SERVICES)})
    sets = [replaced(first, endpoints("s0", *range(2000 + n, 2000 + n + ENDPOINTS))) for n in (0, 1)]
    names = [f"edge{n}" for n in range(nodes)]
    server.carry_out(core.publish(dict.fromkeys(names, first)))
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    print(server.port, flush=True)
    gc.collect()
    gc.freeze()
    number = 0
    while await lines.readline():
        server.carry_out(core.publish(dict.fromkeys(names, sets[number % 2])))
        number += 1


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
