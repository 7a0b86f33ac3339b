"""What a machine of the simulated Google Cloud asks its metadata server, in the form its guest agent knows.

A question for a folder is answered as JSON with all that is in it; with ``wait_for_change`` it is answered
once that differs from what the asker has, or when its patience ends.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from simcloud.gcp import network
from simcloud.service import Answer, Asked
from simcloud.values import first
from simcloud.world import Record, Store

PREFIX = "/computeMetadata/v1/"
FLAVOR = {"Metadata-Flavor": "Google"}
ROUND_S, PATIENCE_S = 0.5, 60.0


class Metadata:
    """The metadata server of one simulated Google Cloud."""

    def __init__(self, store: Store, pause: Callable[[float], None] = time.sleep) -> None:
        self._store = store
        self._pause = pause

    def answer(self, asked: Asked) -> Answer:
        if asked.headers.get("metadata-flavor") != "Google":
            return Answer(403, "Missing required header: Metadata-Flavor: Google", headers=FLAVOR)
        url = urlsplit(asked.path)
        options = {key: values[0] for key, values in parse_qs(url.query).items()}
        left = _seconds(options.get("timeout_sec", "")) if options.get("wait_for_change") == "true" else 0.0
        while True:
            said = self._said(asked.source, url.path.removeprefix(PREFIX))
            if left <= 0 or said.headers.get("ETag") != options.get("last_etag"):
                return said
            self._pause(ROUND_S)
            left -= ROUND_S

    def _said(self, source: str, path: str) -> Answer:
        machine = next(
            (
                one
                for one in self._store.read().of(network.INSTANCE)
                if first(one.outputs, "networkInterfaces[].networkIp") == source
            ),
            None,
        )
        if machine is None:
            return Answer(404, "only instances have metadata", headers=FLAVOR)
        found: Any = document(machine)
        for word in filter(None, path.split("/")):
            if not isinstance(found, dict) or word not in found:
                return Answer(404, f"the simulated Google Cloud has no {path}", headers=FLAVOR)
            found = found[word]
        body, kind = (
            (found, "application/text")
            if isinstance(found, str)
            else (json.dumps(found, sort_keys=True), "application/json")
        )
        etag = hashlib.sha256(body.encode()).hexdigest()[:16]
        return Answer(200, body, kind, {**FLAVOR, "ETag": etag})


def document(machine: Record) -> dict[str, Any]:
    """All that a machine is told."""
    interfaces = machine.outputs["networkInterfaces"]
    return {
        "instance": {
            "id": int(machine.outputs["instanceId"]),
            "name": machine.outputs["name"],
            "zone": f"projects/0/zones/{machine.outputs.get('zone') or ''}",
            "attributes": dict(machine.outputs.get("metadata") or {}),
            "networkInterfaces": [{"ip": one["networkIp"], "forwardedIps": []} for one in interfaces],
            "virtualClock": {"driftToken": 0},
        },
        "project": {"attributes": {}},
    }


def _seconds(text: str) -> float:
    return min(float(text), PATIENCE_S) if text.isdigit() else PATIENCE_S
