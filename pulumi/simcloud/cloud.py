"""The engine of a simulated cloud: every type by its declaration, no type by name."""

from __future__ import annotations

import re
import string
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from simcloud import faults
from simcloud.schema import Answer, Output, Question, Refused, Request, Type, Values
from simcloud.values import UNKNOWN, at, first, is_known, strings
from simcloud.world import Record, Store, World


@dataclass(frozen=True)
class Cloud:
    """A cloud as it is declared: its types, its data sources, its words."""

    name: str
    types: Mapping[str, Type]
    answers: Mapping[str, Answer]
    # Where a resource stands: inputs and the provider's configuration -> region.
    region: Callable[[Values, Mapping[str, Any]], str]
    # What a reference to another resource looks like.
    reference: re.Pattern[str]
    # What the cloud says of a thing that is not there, is in use, is refused by quota, or fails.
    missing: str
    in_use: str
    over_quota: str
    exists: str
    failures: Mapping[str, str]
    regions: frozenset[str]
    quotas: Mapping[str, int]
    # The suffix that the provider gives to names it makes.
    suffix_digits: int
    # What the provider takes for granted where its configuration says nothing.
    assumed: Mapping[str, str] = field(default_factory=dict)
    configured: Callable[[Values], Iterator[tuple[str, str]]] = lambda config: iter(())


@dataclass
class Machines:
    """Who boots and removes machines; by default they exist on paper only."""

    boot: Callable[[Values], None] = lambda machine: None
    remove: Callable[[Values], None] = lambda machine: None


@dataclass
class Account:
    """One cloud account: what the provider's calls do to it. Raises Refused with the cloud's words."""

    cloud: Cloud
    store: Store
    config: dict[str, Any] = field(default_factory=dict)
    machines: Machines = field(default_factory=Machines)
    faults: tuple[faults.Fault, ...] = ()
    counter: faults.Counter | None = None
    pause: Callable[[float], None] = time.sleep
    said: Callable[[str], None] = lambda text: None

    def kind(self, token: str) -> Type:
        known = self.cloud.types.get(token)
        if known is None:
            raise Refused(f"the simulated {self.cloud.name} has no type {token}; see pulumi/simcloud")
        return known

    def check(
        self, token: str, name: str, inputs: Values, old: Values, seed: bytes = b""
    ) -> tuple[Values, list[tuple[str, str]]]:
        """Inputs with the provider's own name, and what is wrong with them (property, reason)."""
        kind = self.kind(token)
        inputs = {key: value for key, value in inputs.items() if key != "__defaults"}
        if kind.named and kind.named not in inputs:
            inputs[kind.named] = old.get(kind.named) or f"{name}-{seed.hex()[: self.cloud.suffix_digits]}"
        return inputs, list(_mistakes(kind, inputs))

    def difference(self, token: str, old: Values, new: Values) -> tuple[list[str], list[str], bool]:
        """Changed properties, those that need a new resource, and whether the old one must go first."""
        kind = self.kind(token)
        changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        renewing = [key for key in changed if key in kind.fixed | kind.renews(old, new)]
        same_name = bool(kind.named) and old.get(kind.named or "") == new.get(kind.named or "")
        return changed, renewing, bool(renewing) and same_name

    def preview(self, token: str, inputs: Values) -> Values:
        kind = self.kind(token)
        return {
            **kind.defaults,
            **dict.fromkeys(kind.outputs, UNKNOWN),
            **inputs,
            **dict.fromkeys(kind.fills, UNKNOWN),
        }

    def preview_update(self, token: str, old: Values, inputs: Values) -> Values:
        """What a resource will be after an update, as far as that is known before it."""
        return {**old, **inputs, **dict.fromkeys(moving(self.kind(token), old, inputs), UNKNOWN)}

    def create(self, token: str, name: str, urn: str, inputs: Values) -> Record:
        """Make a resource; a machine is booted outside the lock, and goes again where it does not boot."""
        kind = self.kind(token)
        self._meet("create", kind.word)
        with self.store.change() as world:
            world.serial += 1
            request = self._request(kind, name, urn, inputs, world)
            if world.find(request.id, token):
                raise Refused(self.cloud.exists.format(word=kind.word, id=request.id))
            record = self._settle(kind, request)
            world.add(record)
            machine = kind.machine(record, world) if kind.machine else None
        if machine is not None:
            try:
                self.machines.boot(machine)
            except Exception:
                with self.store.change() as world:
                    world.remove(record)
                raise
        return record

    def update(self, token: str, name: str, urn: str, reference: str, inputs: Values) -> Record:
        kind = self.kind(token)
        self._meet("update", kind.word)
        with self.store.change() as world:
            known = world.find(reference, token)
            if known is None:
                raise Refused(self.cloud.missing.format(word=kind.word, id=reference))
            request = self._request(kind, name, urn, inputs, world, known=known)
            fresh = self._settle(kind, request)
            moved = moving(kind, known.inputs, inputs)
            # What the cloud computed when the resource was made stays, unless an input decides it now.
            kept = {
                key: value
                for key, value in known.outputs.items()
                if key in kind.outputs and key not in inputs and key not in moved
            }
            names = [*dict.fromkeys([*known.names, *fresh.names])]
            record = replace(fresh, id=known.id, outputs={**fresh.outputs, **kept}, names=names)
            world.remove(known)
            world.add(record)
            return _shown(kind, record, world)

    def read(self, token: str, reference: str) -> Record | None:
        kind = self.kind(token)
        self._meet("read", kind.word)
        world = self.store.read()
        record = world.find(reference, token)
        return _shown(kind, record, world) if record else None

    def delete(self, token: str, reference: str) -> None:
        kind = self.kind(token)
        self._meet("delete", kind.word)
        with self.store.change() as world:
            record = world.find(reference, token)
            if record is None:
                return
            if kind.release:
                kind.release(record, world)
            users = [] if kind.lets_go else [other.id for other in self._users(record, world)]
            if users:
                raise Refused(
                    self.cloud.in_use.format(word=kind.word, id=record.id, users=", ".join(users[:3]))
                )
            machine = kind.machine(record, world) if kind.machine else None
        # A machine that cannot be removed stays known, so that the next try finds it.
        if machine is not None:
            self.machines.remove(machine)
        with self.store.change() as world:
            world.remove(record)

    def ask(self, token: str, arguments: Values) -> Values:
        answer = self.cloud.answers.get(token)
        if answer is None:
            raise Refused(f"the simulated {self.cloud.name} has no data source {token}; see pulumi/simcloud")
        self._meet("ask", token.rpartition(":")[2])
        region = self.cloud.region(arguments, self.config)
        return answer(Question(token, arguments, region, self.config, self.store.read()))

    def _request(
        self, kind: Type, name: str, urn: str, inputs: Values, world: World, known: Record | None = None
    ) -> Request:
        region = "" if kind.everywhere else self.cloud.region(inputs, self.config)
        request = Request(
            token=kind.token,
            name=name,
            urn=urn,
            inputs={**kind.defaults, **inputs},
            id=known.id if known else "",
            region=region,
            config={**self.cloud.assumed, **self.config},
            world=world,
            said=inputs,
            before=known.outputs if known else {},
        )
        return request if known else replace(request, id=computed(kind.id, request))

    def _settle(self, kind: Type, request: Request) -> Record:
        """The record of an admitted request."""
        if request.region and request.region not in self.cloud.regions:
            raise Refused(f"there is no region {request.region!r} in {self.cloud.name}")
        for text, token in self._named(kind, request.inputs):
            if request.world.find(text, token) is None:
                raise Refused(self.cloud.missing.format(word=_word_of(text, token), id=text))
        self._count(kind, request)
        if kind.admit:
            kind.admit(request)
        outputs = {
            key: computed(output, request)
            for key, output in kind.outputs.items()
            if key not in request.inputs
        }
        filled = {key: fill(request) for key, fill in kind.fills.items() if key in request.inputs}
        # A resource is also known by what only it has: its ARN, its self link, its interface, its parts.
        parts = [
            part["id"] for made in filled.values() if isinstance(made, list) for part in made if "id" in part
        ]
        names = [
            text
            for text in (*outputs.values(), *parts)
            if isinstance(text, str) and self.cloud.reference.match(text)
        ]
        names = [text for text in names if request.world.find(text) is None]
        return Record(
            id=request.id,
            token=kind.token,
            region=request.region,
            inputs=dict(request.said),
            outputs={**request.inputs, **outputs, **filled},
            names=names,
        )

    def _named(self, kind: Type, inputs: Values) -> Iterator[tuple[str, str | None]]:
        """What a resource names: references by their form, and plain names with the type they are of."""
        held = {key: value for key, value in inputs.items() if key not in kind.weak and key != "tags"}
        yield from ((text, None) for text in strings(held) if self.cloud.reference.match(text))
        for path, token in kind.refers.items():
            yield from ((str(text), token) for text in at(inputs, path))

    def _users(self, record: Record, world: World) -> Iterator[Record]:
        ours = {record.id, *record.names}
        for other in world.records:
            if (other.id, other.token) == (record.id, record.token):
                continue
            named = self._named(self.kind(other.token), other.inputs)
            if any(text in ours and token in (None, record.token) for text, token in named):
                yield other

    def _count(self, kind: Type, request: Request) -> None:
        if not kind.quota or kind.quota not in self.cloud.quotas:
            return
        weigh = kind.weight or (lambda inputs: 1)
        taken = sum(weigh(other.inputs) for other in request.others(kind.token, region=request.region))
        allowed = self.cloud.quotas[kind.quota]
        if taken + weigh(request.inputs) > allowed:
            raise Refused(
                self.cloud.over_quota.format(quota=kind.quota, allowed=allowed, region=request.region)
            )

    def _meet(self, operation: str, word: str) -> None:
        """The fault that was asked for, if this call is the one."""
        due = self.counter.due(self.faults, operation, word) if self.counter else None
        if due is None:
            return
        if due.kind == "slow":
            self.said(f"{word}: slow on demand")
            self.pause(faults.SLOW_S)
        elif due.kind == "throttle":
            # Providers ask again by themselves; a user sees only that it takes longer.
            self.said(f"{word}: {self.cloud.failures['throttle']}; asking again")
            for attempt in range(faults.THROTTLED_TIMES):
                self.pause(faults.BACKOFF_S * 2**attempt)
        else:
            raise Refused(f"{self.cloud.failures[due.kind]} (a fault asked for: {due.key})")


def moving(kind: Type, old: Mapping[str, Any], inputs: Values) -> set[str]:
    """Outputs that another value of an input makes others."""
    return {key for key, cause in kind.follows.items() if (old.get(cause) or 0) != (inputs.get(cause) or 0)}


def _shown(kind: Type, record: Record, world: World) -> Record:
    return kind.shows(record, world) if kind.shows else record


def _word_of(reference: str, token: str | None) -> str:
    if token:
        return token.rpartition(":")[2]
    return reference.rpartition("/")[0].rpartition("/")[2] or reference.partition("-")[0]


def _mistakes(kind: Type, inputs: Values) -> Iterator[tuple[str, str]]:
    for key in kind.required:
        if inputs.get(key) in (None, ""):
            yield key, f"{kind.word} needs {key}"
    rules = dict(kind.rules)
    if kind.named and kind.name_rule:
        rules[kind.named] = kind.name_rule
    for path, rule in rules.items():
        for value in at(inputs, path):
            if is_known(value) and (reason := rule(value)):
                yield path.replace("[]", "").partition(".")[0], reason


def computed(output: Output, request: Request) -> Any:
    """An output of ``request``: its template filled, or its function called."""
    if not isinstance(output, str):
        return output(request)
    fields = {
        name: _field(name, request) for _, name, _, _ in string.Formatter().parse(output) if name is not None
    }
    return output.format(**fields)


def _field(name: str, request: Request) -> Any:
    own = {"id": request.id, "region": request.region, "digits": request.digits(), "name": request.name}
    if name in request.inputs:
        return request.inputs[name]
    return own.get(name, first(request.config, name, ""))
