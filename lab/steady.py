"""Steady requests through every proxy while something else happens, and what each of them met."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from lab import checks, client
from lab.errors import LabError
from lab.place import HostSpec

BETWEEN_REQUESTS_S = 0.02
_WORDS = 80


def outcome(answer: client.Answer) -> str:
    """The status, and of a failure what it said."""
    if answer.status < 500:
        return str(answer.status)
    return f"{answer.status} {answer.body[:_WORDS].decode(errors='replace')}".strip()


@dataclass
class Watch:
    """What steady requests through one proxy met, in order: a word per answer, or what went wrong."""

    proxy: HostSpec
    path: str = "/"
    word: Callable[[client.Answer], str] = outcome
    met: list[str] = field(default_factory=list)


@contextmanager
def requests(watches: Iterable[Watch], site: checks.Site) -> Iterator[None]:
    """Requests for each watch, one after another on a kept connection, until the block ends."""
    over = threading.Event()
    threads = [threading.Thread(target=_ask, args=(watch, site, over), daemon=True) for watch in watches]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(timeout=2 * client.TIMEOUT_S)
    if any(thread.is_alive() for thread in threads):
        raise LabError("a request did not end", "script/lab status shows whether the proxies run")


def _ask(watch: Watch, site: checks.Site, over: threading.Event) -> None:
    connection: client.Connection | None = None
    while not over.wait(BETWEEN_REQUESTS_S):
        try:
            connection = connection or client.Connection(
                watch.proxy.address, checks.HTTPS_PORT, sni=checks.SHOP, identity=site.anonymous
            )
            watch.met.append(watch.word(connection.get(watch.path, checks.SHOP)))
        except (OSError, http.client.HTTPException) as problem:
            watch.met.append(type(problem).__name__)
            if connection:
                connection.close()
            connection = None
    if connection:
        connection.close()
