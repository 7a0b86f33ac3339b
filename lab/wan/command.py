"""`script/lab wan`: set distances, and say what is set."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

from pydantic_core import PydanticCustomError
from rich.table import Table

from lab.errors import LabError
from lab.place import Place
from lab.progress import err, out
from lab.wan import running, table
from lab.wan.table import Change, Direction, Met, Way
from xds_agent.model.quantities import format_bit_rate, parse_bit_rate, parse_duration

TEXT = """\
How far the lab's networks are from each other, changed while it runs.

  script/lab wan                                    what is set, and what packets met
  script/lab wan aws-gcp --rtt 80ms --jitter 5ms    80 ms there and back, each packet up to 5 ms less or more
  script/lab wan aws-gcp --loss 1% --rate 50mbit    besides, each way: a packet in 100 is lost, 50 Mbit/s
  script/lab wan aws-gcp --one-way --loss 30%       from aws to gcp alone (and with --rtt, all of it there)
  script/lab wan aws-gcp --off                      short again; without a pair: all of them

Networks are the clouds, `control` (the control host's) and `clients` (whom script/lab traffic speaks as).
What is not said stays. Packets of one connection keep their order. A line with a rate holds 200 ms of
packets; what comes on top is lost. Without distances nothing of this runs. `late` counts packets that left
more than 1 ms after their time.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pair", nargs="?", help="two networks, for example aws-gcp")
    parser.add_argument("--rtt", type=_quantity(parse_duration), metavar="80ms", help="there and back")
    parser.add_argument("--jitter", type=_quantity(parse_duration), metavar="5ms", help="of each packet")
    parser.add_argument("--loss", type=_quantity(table.parse_loss), metavar="1%", help="of packets")
    parser.add_argument("--rate", type=_quantity(_rate), metavar="50mbit", help="each way; none: no bound")
    parser.add_argument("--one-way", action="store_true", help="only from the first to the second")
    parser.add_argument("--off", action="store_true", help="take distances away")
    parser.add_argument("--json", action="store_true", help="print what is set as JSON")


def is_set(place: Place) -> bool:
    """Whether a direction has a distance."""
    return bool(running.state(place, running.sides(place)))


def run(place: Place, options: argparse.Namespace) -> int:
    change = Change(options.rtt, options.jitter, options.loss, options.rate)
    if options.off or not change.is_empty:
        _apply(place, options, change)
    elif options.pair:
        raise LabError(f"nothing is said of {options.pair}", "say --rtt, --jitter, --loss, --rate or --off")
    _show(running.state(place, running.sides(place)), as_json=options.json)
    return 0


def _apply(place: Place, options: argparse.Namespace, change: Change) -> None:
    if options.off and not change.is_empty:
        raise LabError("--off takes everything of the pair away", "say --off, or what is to hold")
    if options.pair is None and not options.off:
        raise LabError("between which networks?", "script/lab wan aws-gcp --rtt 80ms")
    known = running.sides(place)
    if not known and not options.off:
        raise LabError("the lab is not up", "script/lab up")
    if options.pair is None:
        running.stop(place)
        return
    pair = table.pair_of(options.pair, known)
    ways = {at: way for at, (way, _) in running.state(place, known).items()}
    if options.off:
        running.apply(place, table.without(ways, pair), known)
    else:
        running.apply(place, table.changed(ways, pair, change, one_way=options.one_way), known)


def _rate(text: str) -> int:
    return 0 if text == "none" else parse_bit_rate(text)


def _quantity(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    def checked(text: str) -> Any:
        try:
            return parse(text)
        except (ValueError, PydanticCustomError) as problem:
            fix = (getattr(problem, "context", None) or {}).get("fix")
            words = f"{text}: {fix}" if fix else str(problem)
            raise argparse.ArgumentTypeError(words.replace("%", "%%")) from None

    return checked


def _show(state: dict[Direction, tuple[Way, Met]], *, as_json: bool) -> None:
    if as_json:
        rows = [
            {"from": at[0], "to": at[1], **vars(way), **vars(met)} for at, (way, met) in sorted(state.items())
        ]
        print(json.dumps(rows, indent=2))
        return
    if not state:
        err.print("no distances are set: all networks are as far apart as this machine makes them")
        return
    shown = Table("from", "to", "delay", "jitter", "loss", "rate", "packets", "lost", "no room", "late")
    for at, (way, met) in sorted(state.items()):
        rate = format_bit_rate(way.rate_bps) if way.rate_bps else ""
        shown.add_row(
            *at, table.ms(way.delay_us), table.ms(way.jitter_us) if way.jitter_us else "",
            table.percent(way.loss_ppm) if way.loss_ppm else "", rate,
            f"{met.packets}", f"{met.lost}", f"{met.overflowed}", f"{met.late}",
        )  # fmt: skip
    out.print(shown)
