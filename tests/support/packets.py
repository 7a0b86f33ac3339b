"""What packets between hosts of a lab meet: each question is a connection that a host opens."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable

# Nobody need listen: whoever is asked and refuses was reached. What is let through is told at once, and has a
# busy machine's time for it; what is dropped is told by silence.
ASK = """
import errno, json, selectors, socket, sys, time
asked = json.load(sys.stdin)
waiting = selectors.DefaultSelector()
met = {}
for number, (source, target, port) in enumerate(asked):
    probe = socket.socket()
    probe.setblocking(False)
    if source:
        probe.bind((source, 0))
    met[number] = probe.connect_ex((target, port))
    waiting.register(probe, selectors.EVENT_WRITE, number)
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end and any(code == errno.EINPROGRESS for code in met.values()):
    for key, _ in waiting.select(0.2):
        met[key.data] = key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        waiting.unregister(key.fileobj)
print(json.dumps([errno.errorcode.get(code, "connected") for code in met.values()]))
"""
THROUGH, SILENCE, NO_WAY = "through", "silence", "no way"
WORDS = {
    "connected": THROUGH,
    "ECONNREFUSED": THROUGH,
    "EINPROGRESS": SILENCE,
    "EHOSTUNREACH": NO_WAY,
    "ENETUNREACH": NO_WAY,
}
SILENCE_S, PATIENCE_S = 2.0, 60.0
# Sends a packet that has another source than the host.
FOREIGN = """
import socket, subprocess, sys
subprocess.run(["ip", "addr", "add", "10.77.0.1/32", "dev", "lo"], check=True)
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.bind(("10.77.0.1", 0))
sender.sendto(b"x", (sys.argv[1], 9))
sender.close()
subprocess.run(["ip", "addr", "del", "10.77.0.1/32", "dev", "lo"], check=True)
"""

Question = tuple[str, str, int]
"""(own address of whoever asks, or "" for its usual one; target; port)."""


def met(inside: list[str], wanted: dict[Question, str]) -> dict[Question, str]:
    """What each question that ``wanted`` names met, asked by the command ``inside`` (podman exec)."""
    found: dict[Question, str] = {}
    for patience, questions in (
        (PATIENCE_S, [one for one, word in wanted.items() if word == THROUGH]),
        (SILENCE_S, [one for one, word in wanted.items() if word != THROUGH]),
    ):
        found |= dict(zip(questions, _ask(inside, questions, patience), strict=True))
    return {question: found[question] for question in wanted}


def _ask(inside: list[str], questions: Iterable[Question], patience_s: float) -> list[str]:
    said = subprocess.run(
        [*inside, "python3", "-c", ASK, str(patience_s)],
        input=json.dumps(list(questions)), capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    return [WORDS[word] for word in json.loads(said.stdout)]
