"""Preflight of a card: packets through its driver, and back by XDP, before the datapath comes on it.

Whom it asks: the gateways of the interface, else neighbours that the kernel knows. What stands in the way is
named with the remedy; a card with nobody on its link who must answer is not tried, and that is said too.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Iterable
from pathlib import Path

from xds_agent.datapath import reflect
from xds_agent.datapath.libbpf import Unavailable
from xds_agent.datapath.link import Link
from xds_agent.datapath.reflect import Heard, Question
from xds_agent.node.datapath.attachment import AttachError, why_not
from xds_agent.node.datapath.network import Address, Interface, Network

log = logging.getLogger(__name__)

# How long a neighbour may be silent without a program, and how long the trial's program stays at most: a
# driver that sets up its rings anew takes a part of it.
_SILENT_S, _TRIAL_S = 1.0, 2.0
# What an agent without the rights for a packet socket meets: nothing is known of the gateway then.
_NOT_ALLOWED = (errno.EPERM, errno.EACCES, errno.EAFNOSUPPORT)
# Neighbours that are asked where there is no gateway.
_OTHERS = 3
# To get a program and to lose it costs some drivers packets: a trial that failed is repeated ever later.
_AGAIN_S, _AGAIN_MOST_S = 4.0, 600.0


class Preflight:
    """`card` tries one; `words`: by interface, what was shown of it."""

    def __init__(self, folder: Path, *, native: bool, skip: bool = False) -> None:
        """`folder`: where the objects lie; `skip`: no card is tried, and that is said."""
        self.words: dict[str, str] = {}
        self._object, self._native, self._skip = folder / reflect.OBJECT, native, skip
        # By interface as it was: until when it is not tried again, how long that was, and why.
        self._failed: dict[tuple[str, int, int], tuple[float, float, str]] = {}

    def card(self, interface: Interface) -> Link | None:
        """The card with the trial's program on it, whose place another is to take: so the driver is set up
        for XDP once. None where nobody answers who had to. Raises AttachError, NetworkError."""
        if self._skip:
            self.words[interface.name] = "not tried: xdp_preflight is false"
            return None
        key = interface.name, interface.index, interface.mtu
        until, waited, why = self._failed.get(key, (0.0, 0.0, ""))
        if time.monotonic() < until:
            raise AttachError(why)
        self.words.pop(interface.name, None)
        found = self._neighbour(interface)
        if found is None:
            self.words[interface.name] = "not tried: no gateway and no neighbour on its link answered"
            log.warning("%s was %s", interface.name, self.words[interface.name])
            return None
        question, mac = found
        try:
            link, heard = reflect.try_out(
                self._object, interface.name, interface.index, question, mac, native=self._native,
                within_s=_TRIAL_S,
            )  # fmt: skip
        except Unavailable as error:
            raise AttachError(str(error)) from error
        except OSError as error:
            raise AttachError(why_not(interface, error, native=self._native)) from error
        if problem := self._problem(interface, question.neighbour, heard):
            link.close()
            waits = min(max(_AGAIN_S, 2 * waited), _AGAIN_MOST_S)
            self._failed[key] = time.monotonic() + waits, waits, problem
            raise AttachError(problem)
        self._failed.pop(key, None)
        self.words[interface.name] = (
            f"{question.neighbour} answered {heard.answers} questions, {heard.answers - heard.asked} of them "
            f"sent by XDP: packets come in by {self._mode} XDP, and what it sends arrives"
        )
        log.info("%s: %s", interface.name, self.words[interface.name])
        return link

    @property
    def _mode(self) -> str:
        return "native" if self._native else "skb"

    def _neighbour(self, interface: Interface) -> tuple[Question, bytes] | None:
        """Who answers without a program, with the MAC. Raises AttachError where a gateway is silent.

        A gateway whose MAC was written down may well answer nobody; one that this host has no address for
        cannot be asked. Neither says anything about the card.
        """
        gateways, static, others = to_ask(interface)
        for question in (*gateways, *static):
            if mac := _asked(interface, question):
                return question, mac
        if gateways:
            raise AttachError(_silent(interface, [one.neighbour for one in gateways]))
        for question in others:
            if mac := _asked(interface, question):
                return question, mac
        return None

    def _problem(self, interface: Interface, neighbour: Address, heard: Heard) -> str:
        name, mode = interface.name, self._mode
        card = f"{name} (driver {interface.driver or 'unknown'}, MTU {interface.mtu})"
        slower = " or ask for the slower mode: xdp_mode: skb" if self._native else ""
        if not heard.receives:
            return (
                f"{card} takes no packets by {mode} XDP: {neighbour} answers without a program, and with one "
                f"none of {heard.asked} answers came in within {_TRIAL_S:g} s; lower the MTU or the number "
                f"of channels, take a newer kernel,{slower}"
            )
        if heard.sends:
            return ""
        lost = (
            f"{card} loses what {mode} XDP sends: {neighbour} answers, but none of the "
            f"{heard.reflected} questions that XDP sent; "
        )
        if interface.driver == "veth":
            return (
                f"{lost}of a veth the other end has to run a program that passes, too "
                f"(ip link set dev OTHER_END xdp obj bpf/build/xdp_pass.bpf.o sec xdp),{slower}"
            )
        return f"{lost}leave the driver channels for XDP (nic_interfaces), take a newer kernel,{slower}"


def to_ask(interface: Interface) -> tuple[list[Question], list[Question], list[Question]]:
    """Gateways, gateways whose MACs were written down, and neighbours for where there are none."""
    if len(interface.mac) != 6:
        return [], [], []
    with Network() as network:

        def questions(addresses: Iterable[Address]) -> list[Question]:
            sources = ((one, network.source(one, interface.index)) for one in addresses)
            return [Question(interface.mac, source, one) for one, source in sources if source is not None]

        gateways = questions(address for address, _ in network.gateways([interface.index]))
        static = [one for one in gateways if network.is_static(one.neighbour, interface.index)]
        asked = {one.neighbour for one in gateways}
        known = [one for one in network.neighbours_on(interface.index) if one not in asked]
        others = questions(known)[:_OTHERS]
    return [one for one in gateways if one not in static], static, others


def _asked(interface: Interface, question: Question) -> bytes | None:
    try:
        return reflect.ask(interface.name, question, within_s=_SILENT_S)
    except OSError as error:
        if error.errno in _NOT_ALLOWED:
            raise AttachError(
                f"{interface.name} cannot be tried without CAP_NET_RAW and packet sockets "
                f"(RestrictAddressFamilies of the unit needs AF_PACKET): {error}"
            ) from error
        log.info("%s: %s", interface.name, error)
        return None


def _silent(interface: Interface, gateways: Iterable[Address]) -> str:
    named = ", ".join(map(str, gateways))
    return (
        f"{interface.name} gets no program: its gateway {named} does not answer even without one, so nobody "
        f"would notice one that shuts the host out; see to its link and address, or correct the route "
        f"(ip route show dev {interface.name})"
    )
