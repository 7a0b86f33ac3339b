"""What machines ask of the simulated AWS by themselves: their metadata, and two calls of EC2.

A call is signed (Signature Version 4) with the keys that an instance's metadata gave it, and allowed by the
policies of the instance's role, as in AWS; it is answered from what the cloud holds, and changes that.
"""

from __future__ import annotations

import fnmatch
import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from simcloud.aws import compute, facts, network
from simcloud.service import Answer, Asked
from simcloud.world import Record, Store, World

NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"
KEY_PREFIX = "ASIA"
CREDENTIALS = "/latest/meta-data/iam/security-credentials/"
TOKEN_S = 21600
SCHEME = "AWS4-HMAC-SHA256"
EXPIRES = "2099-01-01T00:00:00Z"


class No(Exception):
    """The API refuses: its code, its words, its status."""

    def __init__(self, code: str, words: str, status: int = 400) -> None:
        super().__init__(f"{code}: {words}")
        self.code, self.words, self.status = code, words, status


class Api:
    """The metadata of instances, and EC2, of one simulated AWS."""

    def __init__(self, store: Store, seed: bytes) -> None:
        """All keys come from ``seed``: machines keep theirs when the API starts again."""
        self._store = store
        self._seed = seed

    def answer(self, asked: Asked) -> Answer:
        if asked.path.startswith("/latest/"):
            return self._metadata(asked)
        try:
            return Answer(200, self._call(asked), "text/xml")
        except No as no:
            error = f"<Error><Code>{no.code}</Code><Message>{escape(no.words)}</Message></Error>"
            body = f"<Response><Errors>{error}</Errors><RequestID>simulated</RequestID></Response>"
            return Answer(no.status, body, "text/xml")

    def _metadata(self, asked: Asked) -> Answer:
        world = self._store.read()
        instance = next(
            (one for one in world.of(network.INSTANCE) if one.outputs["privateIp"] == asked.source), None
        )
        if instance is None:
            return Answer(404, "only instances have metadata")
        if (asked.method, asked.path) == ("PUT", "/latest/api/token"):
            return Answer(200, self._token(instance.id))
        given = asked.headers.get("x-aws-ec2-metadata-token", "")
        if not hmac.compare_digest(given, self._token(instance.id)):
            return Answer(401, "a token is needed: PUT /latest/api/token")
        if asked.path == "/latest/user-data" and instance.inputs.get("userData"):
            return Answer(200, str(instance.inputs["userData"]), "application/octet-stream")
        role = role_of(instance, world)
        if role and asked.path == CREDENTIALS:
            return Answer(200, role)
        if role and asked.path == CREDENTIALS + role:
            return Answer(200, json.dumps(self._keys(instance.id)), "application/json")
        return Answer(404, f"the simulated AWS has no {asked.path}")

    def _token(self, text: str) -> str:
        return hmac.new(self._seed, text.encode(), hashlib.sha256).hexdigest()

    def _keys(self, instance: str) -> dict[str, str]:
        return {
            "Code": "Success",
            "Type": "AWS-HMAC",
            "LastUpdated": "2026-01-01T00:00:00Z",
            "AccessKeyId": KEY_PREFIX + instance.removeprefix("i-").upper(),
            "SecretAccessKey": self._token(f"secret {instance}"),
            "Token": self._token(f"session {instance}"),
            "Expiration": EXPIRES,
        }

    def _call(self, asked: Asked) -> str:
        said = {key: values[0] for key, values in parse_qs(asked.body.decode()).items()}
        action = said.get("Action", "")
        calls = {"DescribeRouteTables": self._describe, "ReplaceRoute": self._replace}
        if action not in calls:
            raise No("InvalidAction", f"the simulated EC2 answers {', '.join(calls)}, not {action!r}")
        caller, region = self._caller(asked)
        return calls[action](said, caller, region)

    def _caller(self, asked: Asked) -> tuple[str, str]:
        """The instance whose keys signed the call, and the region it was signed for."""
        try:
            scheme, _, rest = asked.headers.get("authorization", "").partition(" ")
            parts = dict(part.strip().split("=", 1) for part in rest.split(","))
            key, date, region, service, _ = parts["Credential"].split("/")
            signed, signature = parts["SignedHeaders"], parts["Signature"]
        except (KeyError, ValueError):
            raise No("MissingAuthenticationToken", "Request is missing Authentication Token", 403) from None
        instance = "i-" + key.removeprefix(KEY_PREFIX).lower()
        keys = self._keys(instance)
        good = _signature(asked, signed, keys["SecretAccessKey"], (date, region, service))
        given = asked.headers.get("x-amz-security-token", "")
        if scheme != SCHEME or not hmac.compare_digest(good + keys["Token"], signature + given):
            raise No("AuthFailure", "AWS was not able to validate the provided access credentials", 401)
        return instance, region

    def _describe(self, said: Mapping[str, str], caller: str, region: str) -> str:
        world = self._store.read()
        _allowed(world, caller, "ec2:DescribeRouteTables", "*")
        wanted = [value for key, value in said.items() if key.startswith("RouteTableId.")]
        tables = "".join(_shown(_table(world, id_, region), world) for id_ in wanted)
        return _response("DescribeRouteTables", f"<routeTableSet>{tables}</routeTableSet>")

    def _replace(self, said: Mapping[str, str], caller: str, region: str) -> str:
        with self._store.change() as world:
            table = _table(world, said.get("RouteTableId", ""), region)
            arn = f"arn:aws:ec2:{region}:{facts.ACCOUNT}:route-table/{table.id}"
            _allowed(world, caller, "ec2:ReplaceRoute", arn)
            range_, target = said.get("DestinationCidrBlock", ""), said.get("NetworkInterfaceId", "")
            route = next((one for one in _routes(table, world) if _destination(one) == range_), None)
            if route is None:
                raise No("InvalidParameterValue", f"There is no route defined for {range_} in {table.id}")
            instance = world.find(target, network.INSTANCE)
            if instance is None:
                raise No("InvalidNetworkInterfaceID.NotFound", f"The interface '{target}' does not exist")
            if instance.outputs.get("sourceDestCheck") is not False:
                raise No("InvalidParameterValue", f"{target} checks sources and destinations")
            change = {"networkInterfaceId": target}
            world.remove(route)
            world.add(replace(route, inputs={**route.inputs, **change}, outputs={**route.outputs, **change}))
        return _response("ReplaceRoute", "<return>true</return>")


def role_of(instance: Record, world: World) -> str:
    """The role that an instance acts as; empty without one."""
    profile = world.find(str(instance.inputs.get("iamInstanceProfile")), compute.PROFILE)
    return str(profile.inputs.get("role", "")) if profile else ""


def _allowed(world: World, caller: str, action: str, resource: str) -> None:
    """Whether a policy of the caller's role says so; nothing else allows anything."""
    instance = world.find(caller, network.INSTANCE)
    role = role_of(instance, world) if instance else ""
    for statement in _statements(role, world):
        if statement["Effect"] == "Allow" and all(
            any(fnmatch.fnmatchcase(wanted, pattern) for pattern in _many(statement[key]))
            for key, wanted in (("Action", action), ("Resource", resource))
        ):
            return
    raise No(
        "UnauthorizedOperation",
        f"You are not authorized to perform this operation. User: {role or caller} is not authorized to "
        f"perform: {action} on resource: {resource}",
        403,
    )


def _statements(role: str, world: World) -> Iterator[Mapping[str, Any]]:
    for policy in world.of(compute.ROLE_POLICY):
        if policy.inputs.get("role") == role:
            yield from _many(json.loads(policy.inputs["policy"])["Statement"])


def _many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _table(world: World, id_: str, region: str) -> Record:
    table = world.find(id_, network.TABLE)
    if table is None or table.region != region:
        raise No("InvalidRouteTableID.NotFound", f"The routeTable ID '{id_}' does not exist")
    return table


def _routes(table: Record, world: World) -> list[Record]:
    return [one for one in world.of(network.ROUTE) if one.inputs["routeTableId"] == table.id]


def _destination(route: Record) -> str:
    return str(route.inputs.get("destinationCidrBlock", ""))


def _shown(table: Record, world: World) -> str:
    routes = "".join(
        f"<item><destinationCidrBlock>{_destination(one)}</destinationCidrBlock>"
        + "".join(
            f"<{key}>{one.outputs[key]}</{key}>"
            for key in ("gatewayId", "natGatewayId", "networkInterfaceId", "state", "origin")
            if one.outputs.get(key)
        )
        + "</item>"
        for one in _routes(table, world)
        if _destination(one)
    )
    own = f"<routeTableId>{table.id}</routeTableId><vpcId>{table.inputs['vpcId']}</vpcId>"
    return f"<item>{own}<routeSet>{routes}</routeSet></item>"


def _response(action: str, inside: str) -> str:
    return (
        f'<{action}Response xmlns="{NAMESPACE}"><requestId>simulated</requestId>{inside}</{action}Response>'
    )


def _signature(asked: Asked, signed: str, secret: str, scope: tuple[str, str, str]) -> str:
    """Signature Version 4 of a POST without a query."""
    headers = "".join(
        f"{name}:{' '.join(asked.headers.get(name, '').split())}\n" for name in signed.split(";")
    )
    body = hashlib.sha256(asked.body).hexdigest()
    request = "\n".join([asked.method, asked.path, "", headers, signed, body])
    within = "/".join([*scope, "aws4_request"])
    text = "\n".join(
        [SCHEME, asked.headers.get("x-amz-date", ""), within, hashlib.sha256(request.encode()).hexdigest()]
    )
    key = f"AWS4{secret}".encode()
    for part in (*scope, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
