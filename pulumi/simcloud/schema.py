"""How a resource type is described: one declaration each, read by one engine (cloud.py)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from simcloud.world import Record, World

Values = dict[str, Any]
# What is wrong with a value, in the cloud's words; None if nothing is.
Rule = Callable[[Any], str | None]


class Refused(Exception):
    """The cloud says no; the text is what it says."""


@dataclass(frozen=True)
class Request:
    """One call to make or change a resource, as rules and computations see it."""

    token: str
    name: str
    urn: str
    inputs: Values
    id: str
    region: str
    config: Mapping[str, Any]
    world: World
    # What the program said, without what the cloud fills in.
    said: Values = field(default_factory=dict)
    # What the resource was before an update; {} when it is made.
    before: Mapping[str, Any] = field(default_factory=dict)

    def get(self, key: str, default: Any = None) -> Any:
        return self.inputs.get(key, default)

    def others(self, *tokens: str, region: str | None = None) -> list[Record]:
        """Records of these types, without the resource itself; of one region if asked."""
        return [
            record
            for record in self.world.of(*tokens)
            if record.id != self.id and (region is None or record.region == region)
        ]

    def find(self, reference: Any, token: str | None = None) -> Record | None:
        return self.world.find(str(reference), token)

    def digits(self, length: int = 17) -> str:
        """Hexadecimal digits that belong to this resource and this making of it."""
        return hashlib.sha256(f"{self.urn} {self.world.serial}".encode()).hexdigest()[:length]


# A template over id, name, region and digits, or a function of the request.
Output = str | Callable[[Request], Any]


@dataclass(frozen=True)
class Type:
    """What the engine has to know of one resource type."""

    token: str
    # Its id: a template over region, digits, name and the inputs, or a function.
    id: Output
    required: tuple[str, ...] = ()
    # The property the provider names by itself where the program does not.
    named: str | None = None
    # The form that name must have.
    name_rule: Rule | None = None
    # Properties whose change makes a new resource: always, or where the function (old, new) says so.
    fixed: frozenset[str] = frozenset()
    renews: Callable[[Values, Values], frozenset[str]] = lambda old, new: frozenset()
    # Properties that name another resource by a plain name: property -> its type.
    refers: Mapping[str, str] = field(default_factory=dict)
    # Path of a property -> what its value must be.
    rules: Mapping[str, Rule] = field(default_factory=dict)
    # What the cloud fills in where the program says nothing.
    defaults: Mapping[str, Any] = field(default_factory=dict)
    # What only the cloud knows.
    outputs: Mapping[str, Output] = field(default_factory=dict)
    # Of these, those that an update computes anew: output -> the input whose change makes it another.
    follows: Mapping[str, str] = field(default_factory=dict)
    # Inputs that come back with more in them than was said: property -> what the cloud makes of it.
    fills: Mapping[str, Callable[[Request], Any]] = field(default_factory=dict)
    # What the cloud checks against everything else it holds; raises Refused.
    admit: Callable[[Request], None] | None = None
    # What the cloud checks before it lets a record go (raises Refused), and what it takes along.
    release: Callable[[Record, World], None] | None = None
    # What the cloud says of a record when it is read, where that is more than was said when it was made.
    shows: Callable[[Record, World], Record] | None = None
    # Whether a record may go while others still name it (the cloud detaches it by itself).
    lets_go: bool = False
    # Properties that name others without holding them there.
    weak: frozenset[str] = frozenset()
    # Counted against the quota of this name.
    quota: str | None = None
    # How much of the quota one takes; 1 unless it says so.
    weight: Callable[[Values], int] | None = None
    # Whether it stands once in an account, not once in each region.
    everywhere: bool = False
    # A machine: how it is described to whoever boots it.
    machine: Callable[[Record, World], Values] | None = None

    @property
    def word(self) -> str:
        """Its short name: Instance."""
        return self.token.rpartition(":")[2]


@dataclass(frozen=True)
class Question:
    """A call of a data source."""

    token: str
    arguments: Values
    region: str
    config: Mapping[str, Any]
    world: World


Answer = Callable[[Question], Values]
