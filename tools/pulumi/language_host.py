"""A Pulumi language host for Python, over the SDK's own protocol classes.

The engine starts a language host to run a program. The official one comes with the official CLI; its Go
module cannot be had from a module proxy, so a CLI built from modules finds this one on PATH (``bin/``). It
runs programs and policy packs, and never asks the engine to fetch anything: required plugins are none.

    language_host.py [--root=...] ENGINE_ADDRESS     prints its port, serves until SIGINT or SIGTERM
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2

RUN_PROGRAM = Path(__file__).with_name("run_program.py")
# A program's exit code: what went wrong has been said already.
ALREADY_SAID = 32
JOB, CONFIG, SECRET_KEYS = "MARCHPROXY_PULUMI_JOB", "PULUMI_CONFIG", "PULUMI_CONFIG_SECRET_KEYS"
MAX_MESSAGE_BYTES = 400 << 20
WORKERS = 16
PARENT_CHECK_S = 2


class NoInterpreter(Exception):
    """The project names a virtual environment that is not there."""


def interpreter(info: Any) -> str:
    """The Python of a program: its project's option ``virtualenv``, else the one that runs this host.

    Raises NoInterpreter where the environment is missing.
    """
    options = dict(info.options) if info.HasField("options") else {}
    wanted = options.get("virtualenv")
    if not wanted:
        return sys.executable
    python = Path(info.root_directory or info.program_directory, wanted, "bin", "python")
    if not python.exists():
        raise NoInterpreter(
            f"{python} does not exist: the project's runtime option virtualenv names {wanted}; "
            "script/pulumi makes it"
        )
    return str(python)


class Children:
    """Processes started for the engine; none outlives a cancelled call or this host."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()

    def start(
        self, argv: list[str], context: grpc.ServicerContext, **options: Any
    ) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, **options)
        with self._lock:
            self._running.add(child)
        context.add_callback(lambda: self._end(child))
        return child

    def _end(self, child: subprocess.Popen[bytes]) -> None:
        if child.poll() is None:
            child.terminate()
        with self._lock:
            self._running.discard(child)

    def end_all(self) -> None:
        with self._lock:
            running = list(self._running)
        for child in running:
            self._end(child)


class LanguageHost(language_pb2_grpc.LanguageRuntimeServicer):
    """Answers the calls that the engine makes of a language host."""

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self.children = Children()

    def Handshake(self, request: Any, context: Any) -> Any:
        return language_pb2.LanguageHandshakeResponse()

    def GetPluginInfo(self, request: Any, context: Any) -> Any:
        return plugin_pb2.PluginInfo(version=importlib.metadata.version("pulumi"))

    def GetRequiredPackages(self, request: Any, context: Any) -> Any:
        return language_pb2.GetRequiredPackagesResponse()

    def GetRequiredPlugins(self, request: Any, context: Any) -> Any:
        return language_pb2.GetRequiredPluginsResponse()

    def RuntimeOptionsPrompts(self, request: Any, context: Any) -> Any:
        return language_pb2.RuntimeOptionsResponse()

    def InstallDependencies(self, request: Any, context: Any) -> Iterator[Any]:
        yield language_pb2.InstallDependenciesResponse(stdout=b"script/pulumi installs them\n")

    def About(self, request: Any, context: Any) -> Any:
        return language_pb2.AboutResponse(executable=sys.executable, version=sys.version.split()[0])

    def GetProgramDependencies(self, request: Any, context: Any) -> Any:
        found = [
            language_pb2.DependencyInfo(name=each.metadata["Name"], version=each.version)
            for each in importlib.metadata.distributions()
        ]
        return language_pb2.GetProgramDependenciesResponse(dependencies=found)

    def Run(self, request: Any, context: Any) -> Any:
        try:
            python = interpreter(request.info)
        except NoInterpreter as problem:
            return language_pb2.RunResponse(error=str(problem))
        child = self.children.start(
            [python, "-u", str(RUN_PROGRAM)],
            context,
            env=os.environ | _environment(request, self._engine),
            cwd=request.pwd or None,
        )
        code = child.wait()
        if code == ALREADY_SAID:
            return language_pb2.RunResponse(bail=True)
        return language_pb2.RunResponse(error="" if code == 0 else f"the program ended with code {code}")

    def RunPlugin(self, request: Any, context: Any) -> Iterator[Any]:
        try:
            python = interpreter(request.info)
        except NoInterpreter as problem:
            yield language_pb2.RunPluginResponse(stderr=f"{problem}\n".encode())
            yield language_pb2.RunPluginResponse(exitcode=1)
            return
        program = request.info.program_directory
        policies = request.kind == "analyzer"
        words = ["-m", "pulumi.policy", *request.args, program] if policies else [program, *request.args]
        child = self.children.start(
            [python, "-u", *words],
            context,
            cwd=program if policies else request.pwd or None,
            env=os.environ | dict(entry.split("=", 1) for entry in request.env),
            stdout=subprocess.PIPE,
        )
        assert child.stdout is not None
        for line in child.stdout:
            yield language_pb2.RunPluginResponse(stdout=line)
        yield language_pb2.RunPluginResponse(exitcode=child.wait())

    def Cancel(self, request: Any, context: Any) -> Any:
        self.children.end_all()
        return empty_pb2.Empty()


def _environment(request: Any, engine: str) -> dict[str, str]:
    """What run_program.py reads: the job, and the configuration in the SDK's own variables."""
    info = request.info
    job = {
        "program": str(Path(info.program_directory, info.entry_point)),
        "args": list(request.args),
        "pwd": request.pwd,
        "settings": {
            "monitor": request.monitor_address,
            "engine": engine,
            "project": request.project,
            "stack": request.stack,
            "parallel": request.parallel,
            "dry_run": request.dryRun,
            "organization": request.organization,
            "root_directory": info.root_directory,
        },
    }
    return {
        JOB: json.dumps(job),
        CONFIG: json.dumps(dict(request.config)),
        SECRET_KEYS: json.dumps(list(request.configSecretKeys)),
    }


def serve(engine: str) -> None:
    """Serve on a free loopback port, which goes to stdout, until a signal or the engine's own end."""
    engine_pid = os.getppid()
    host = LanguageHost(engine)
    server = grpc.server(
        futures.ThreadPoolExecutor(WORKERS),
        options=[("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)],
    )
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(host, server)
    port = server.add_insecure_port("127.0.0.1:0")
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    server.start()
    print(port, flush=True)
    # An engine that is killed ends nobody.
    while not over.wait(PARENT_CHECK_S) and os.getppid() == engine_pid:
        pass
    host.children.end_all()
    server.stop(None)


if __name__ == "__main__":
    serve(next((word for word in sys.argv[1:] if not word.startswith("-")), ""))
