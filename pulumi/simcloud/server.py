"""The provider protocol around a simulated cloud: what the engine starts as ``pulumi-resource-NAME``.

SIMCLOUD_WORLD is the folder of the clouds' state, SIMCLOUD_FAULTS the faults of this run (separated by
blanks), SIMCLOUD_QUOTAS a JSON object of quotas that differ, SIMCLOUD_MACHINES a command that boots and
removes machines: it is called with ``boot`` or ``remove`` and reads the machine as JSON from stdin.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent import futures
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import empty_pb2, struct_pb2
from google.protobuf.json_format import MessageToDict
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, plugin_pb2, provider_pb2, provider_pb2_grpc

from simcloud import faults
from simcloud.cloud import Account, Cloud, Machines
from simcloud.schema import Refused, Values
from simcloud.values import whole
from simcloud.world import Record, Store

WORKERS = 32
# Above every SDK's own version: the engine refuses a provider older than what a program was written for.
VERSION = "99.0.0"
BOOT_TIMEOUT_S = 300
PARENT_CHECK_S = 2
MAX_MESSAGE_BYTES = 400 << 20


def plain(message: Any) -> Values:
    found: Values = whole(MessageToDict(message))
    return found


def struct(values: Mapping[str, Any]) -> struct_pb2.Struct:
    message = struct_pb2.Struct()
    message.update(dict(values))
    return message


def decoded(config: Values) -> Values:
    """A provider's configuration: nested values travel as JSON text."""
    return {key: _decoded(value) for key, value in config.items() if key not in ("version", "__internal")}


def _decoded(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


class Provider(provider_pb2_grpc.ResourceProviderServicer):
    """One provider resource of a program: one account, one region or project."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def Handshake(self, request: Any, context: Any) -> Any:
        return provider_pb2.ProviderHandshakeResponse()

    def GetPluginInfo(self, request: Any, context: Any) -> Any:
        return plugin_pb2.PluginInfo(version=VERSION)

    def GetSchema(self, request: Any, context: Any) -> Any:
        return provider_pb2.GetSchemaResponse(
            schema=json.dumps({"name": self._account.cloud.name, "version": VERSION})
        )

    def CheckConfig(self, request: Any, context: Any) -> Any:
        wrong = self._account.cloud.configured(decoded(plain(request.news)))
        return provider_pb2.CheckResponse(inputs=request.news, failures=_failures(wrong))

    def DiffConfig(self, request: Any, context: Any) -> Any:
        old, new = plain(request.old_inputs), plain(request.news)
        changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        moved = [key for key in changed if key in ("region", "project", "subscriptionId")]
        return _difference(changed, moved, first_gone=False)

    def Configure(self, request: Any, context: Any) -> Any:
        self._account.config = decoded(plain(request.args) or dict(request.variables))
        return provider_pb2.ConfigureResponse(acceptSecrets=False, supportsPreview=True)

    def Check(self, request: Any, context: Any) -> Any:
        try:
            inputs, wrong = self._account.check(
                request.type, request.name, plain(request.news), plain(request.olds), request.randomSeed
            )
        except Refused as no:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(no))
        return provider_pb2.CheckResponse(inputs=struct(inputs), failures=_failures(wrong))

    def Diff(self, request: Any, context: Any) -> Any:
        changed, renewing, first_gone = self._account.difference(
            request.type, plain(request.old_inputs), plain(request.news)
        )
        ignored = set(request.ignoreChanges)
        changed, renewing = ([key for key in keys if key not in ignored] for keys in (changed, renewing))
        return _difference(changed, renewing, first_gone=first_gone)

    def Create(self, request: Any, context: Any) -> Any:
        inputs = plain(request.properties)
        try:
            if request.preview:
                return provider_pb2.CreateResponse(
                    properties=struct(self._account.preview(request.type, inputs))
                )
            record = self._account.create(request.type, request.name, request.urn, inputs)
        except Refused as no:
            context.abort(grpc.StatusCode.UNKNOWN, str(no))
        return provider_pb2.CreateResponse(id=record.id, properties=struct(record.outputs))

    def Read(self, request: Any, context: Any) -> Any:
        try:
            record = self._account.read(request.type, request.id)
        except Refused as no:
            context.abort(grpc.StatusCode.UNKNOWN, str(no))
        if record is None:
            # An empty id means that it is gone.
            return provider_pb2.ReadResponse(id="")
        inputs = struct(_read_inputs(record, plain(request.inputs)))
        return provider_pb2.ReadResponse(id=record.id, properties=struct(record.outputs), inputs=inputs)

    def Update(self, request: Any, context: Any) -> Any:
        inputs = plain(request.news)
        if request.preview:
            foreseen = self._account.preview_update(request.type, plain(request.olds), inputs)
            return provider_pb2.UpdateResponse(properties=struct(foreseen))
        try:
            record = self._account.update(request.type, request.name, request.urn, request.id, inputs)
        except Refused as no:
            context.abort(grpc.StatusCode.UNKNOWN, str(no))
        return provider_pb2.UpdateResponse(properties=struct(record.outputs))

    def Delete(self, request: Any, context: Any) -> Any:
        try:
            self._account.delete(request.type, request.id)
        except Refused as no:
            context.abort(grpc.StatusCode.UNKNOWN, str(no))
        return empty_pb2.Empty()

    def Invoke(self, request: Any, context: Any) -> Any:
        try:
            answer = self._account.ask(request.tok, plain(request.args))
        except Refused as no:
            context.abort(grpc.StatusCode.UNKNOWN, str(no))
        return provider_pb2.InvokeResponse(**{"return": struct(answer)})

    def Cancel(self, request: Any, context: Any) -> Any:
        return empty_pb2.Empty()

    def Attach(self, request: Any, context: Any) -> Any:
        return empty_pb2.Empty()


def _read_inputs(record: Record, known: Values) -> Values:
    """What a program would have to say to get the record as it is, without the defaults it left out."""
    return {key: value for key, value in record.inputs.items() if key in known} if known else record.inputs


def _failures(wrong: Any) -> list[Any]:
    return [provider_pb2.CheckFailure(property=key, reason=reason) for key, reason in wrong]


def _difference(changed: list[str], renewing: list[str], *, first_gone: bool) -> Any:
    kinds = provider_pb2.DiffResponse
    return provider_pb2.DiffResponse(
        changes=kinds.DIFF_SOME if changed else kinds.DIFF_NONE,
        diffs=changed,
        replaces=renewing,
        deleteBeforeReplace=bool(renewing) and first_gone,
    )


def machines(command: str) -> Machines:
    """Whoever boots machines, as a command; without one they exist on paper."""
    if not command:
        return Machines()

    def call(word: str, machine: Values) -> None:
        done = subprocess.run(
            [*shlex.split(command), word],
            input=json.dumps(machine),
            capture_output=True,
            text=True,
            timeout=BOOT_TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            raise Refused(
                f"{machine['name']} could not {word}: {(done.stderr or done.stdout).strip()[-1000:]}"
            )

    return Machines(lambda machine: call("boot", machine), lambda machine: call("remove", machine))


def account(cloud: Cloud, environment: Mapping[str, str]) -> Account:
    """The account that the environment describes; BadFault, KeyError or ValueError where it is wrong."""
    folder = Path(environment["SIMCLOUD_WORLD"])
    quotas = {**cloud.quotas, **json.loads(environment.get("SIMCLOUD_QUOTAS") or "{}")}
    return Account(
        cloud=replace(cloud, quotas=quotas),
        store=Store(folder, cloud.name),
        machines=machines(environment.get("SIMCLOUD_MACHINES", "")),
        faults=faults.parse(environment.get("SIMCLOUD_FAULTS", "").split()),
        counter=faults.Counter(folder, environment.get("SIMCLOUD_RUN", "")),
    )


def _to_user(engine: str) -> Any:
    """A way to put a line into what `pulumi up` shows."""
    stub = engine_pb2_grpc.EngineStub(grpc.insecure_channel(engine))

    def say(text: str) -> None:
        stub.Log(engine_pb2.LogRequest(severity=engine_pb2.WARNING, message=text))

    return say


def serve(cloud: Cloud, arguments: list[str]) -> int:
    """Serve on a free loopback port, which goes to stdout, until a signal or the engine's own end."""
    engine_pid = os.getppid()
    try:
        here = account(cloud, os.environ)
    except KeyError as missing:
        print(f"{missing.args[0]} is not set: script/pulumi --simulated sets it", file=sys.stderr)
        return 1
    except ValueError as problem:
        print(problem, file=sys.stderr)
        return 1
    engine = next((word for word in arguments if ":" in word and not word.startswith("-")), "")
    if engine:
        here.said = _to_user(engine)
    server = grpc.server(
        futures.ThreadPoolExecutor(WORKERS), options=[("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)]
    )
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(Provider(here), server)
    port = server.add_insecure_port("127.0.0.1:0")
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    server.start()
    print(port, flush=True)
    # An engine that is killed ends nobody.
    while not over.wait(PARENT_CHECK_S) and os.getppid() == engine_pid:
        pass
    server.stop(None)
    return 0
