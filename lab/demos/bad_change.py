"""Edits that would hurt, applied under traffic: refused in words, undone, and no request lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from lab import playbooks, steady
from lab.demos.edits import as_it_is
from lab.demos.stage import Demo, Shown, Stage
from lab.errors import LabError

STORY = """\
Brings the inventory live as it is, then sends requests through every proxy, one after another, and meanwhile
brings edits to them that would hurt:

  1. a route with a regular expression that the inventory's checks cannot fault and a real Envoy refuses:
     the shadow on the control host refuses it, and no proxy sees it
  2. a route to a service that nobody runs, in which every Envoy finds nothing wrong: the first wave gets it,
     a canary's own request is answered 503, and the wave goes back

Each is written to inventories/lab/edge/demo-bad-change.yml and applied with playbooks/routes.yml, as you
would. The play must fail with a message that names who refused what, Envoy's own words and the line of the
inventory; the revision from before must be live, and no request may have failed. The file is removed in the
end, and routes.yml must then have nothing to change.
"""
FILE = Path("edge") / "demo-bad-change.yml"


@dataclass(frozen=True)
class Edit:
    """An edit, and what the message that refuses it must hold."""

    claim: str
    text: str
    words: tuple[str, ...]


EDITS = (
    Edit(
        "an edit that Envoy refuses fails in Envoy's words, with the line of the inventory",
        # Together they repeat more than the 1000 times that RE2 allows: only Envoy finds that out.
        "routes:\n  - name: demo\n    domains: [shop.example.com]\n"
        "    regex: '/demo/(?:a{50}){50}'\n    service: shop\n",
        ("the shadow of", "invalid repetition size", FILE.name),
    ),
    Edit(
        "an edit that a canary serves worse fails with proxy, request, both answers, and the line",
        # Nothing in it is wrong; nobody listens on that port of the backends.
        "services:\n  - name: demo\n    tenant: retail\n    endpoints: [{group: shop_backends, port: 9}]\n"
        "routes:\n  - name: demo\n    domains: [shop.example.com]\n    prefix: /demo\n    service: demo\n",
        ("edge-", "GET https://shop.example.com/demo was answered 503", "before the change 200", FILE.name),
    ),
)


def play(stage: Stage) -> Iterable[Shown]:
    """Apply each edit under traffic; a row per edit, one for the traffic, one for what is left."""
    path = stage.inventory.parent / FILE
    path.unlink(missing_ok=True)
    as_it_is(stage)
    watches = [
        steady.Watch(proxy, asked) for proxy in stage.place.in_group("ingress") for asked in ("/", "/api")
    ]
    with steady.requests(watches, stage.site), ExitStack() as undo:
        undo.callback(path.unlink, missing_ok=True)
        for edit in EDITS:
            stage.say(f"applying {edit.claim.partition(' fails')[0]}")
            path.write_text(edit.text)
            yield _judged(edit, playbooks.run("routes.yml", stage.place, "--extra-vars", "force=true"))
    after = playbooks.run("routes.yml", stage.place)
    yield untouched(after)
    yield lossless(watches)


def _judged(edit: Edit, ended: playbooks.Ended) -> Shown:
    came = ended.message or "the play went through"
    if ended.succeeded or not all(word in came for word in edit.words):
        # Why it was not refused where it should have been: a shadow that could not try it says so here.
        return Shown(edit.claim, "\n  ".join((came, *ended.warnings)), False)
    return Shown(edit.claim, came, True)


def untouched(after: playbooks.Ended) -> Shown:
    if not after.succeeded:
        raise LabError(f"routes.yml fails without the edit too: {after.message}")
    came = "routes.yml has nothing to change" if not after.changed else f"it changed {after.changed} tasks"
    return Shown("with the edit taken out, what is live is what was", came, after.changed == 0)


def lossless(watches: list[steady.Watch]) -> Shown:
    met = Counter(word for watch in watches for word in watch.met)
    failed = met.total() - met["200"]
    where = sorted({f"{one.proxy.name}{one.path}" for one in watches if set(one.met) - {"200"}})
    came = f"{failed} failed of {met.total()} requests through {len({w.proxy.name for w in watches})} proxies"
    if failed:
        words = [f"{count} times {word}" for word, count in met.items() if word != "200"]
        came += f" ({', '.join(words)}; through {', '.join(where)})"
    return Shown("no request failed meanwhile", came, failed == 0 and met.total() > 0)


DEMO = Demo("bad-change", "edits that would hurt, refused under traffic", STORY, play)
