"""What a site is compiled with beside its inventory: keys, certificates, trust, pending ACME answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from xds_agent.model import Problem


@dataclass(frozen=True, slots=True)
class KeyPair:
    """PEM chain (leaf first) and PEM private key."""

    chain: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Trust:
    """PEM certificates of an authority, and the PEM revocation lists where there are any."""

    ca: bytes
    crl: bytes | None = None


@dataclass(frozen=True, slots=True)
class Material:
    """Key pairs by certificate name, trusts by authority name (`site-ca` included).

    `challenges`: token -> key authorization of pending ACME HTTP-01 orders, answered on plain HTTP.
    `denied`: networks denied by hand beside the inventory, each with its end (Unix time).
    """

    key_pairs: Mapping[str, KeyPair]
    trusts: Mapping[str, Trust]
    challenges: Mapping[str, bytes] = field(default_factory=dict)
    denied: tuple[tuple[str, int], ...] = ()


class CompileError(Exception):
    """A valid inventory that cannot be compiled. Holds every problem."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(problem.render() for problem in problems))
        self.problems = list(problems)
