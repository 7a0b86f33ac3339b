"""User data in the state of a stack, made secret as the program makes it.

The clouds give user data back as plain text, and so `pulumi import` writes it down. The program cannot mend
that: a host keeps the user data that it has, as the engine holds it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

# How the engine writes a secret; `pulumi stack import` encrypts the plaintext.
_SIGNATURE = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270"}
_USER_DATA: dict[str, tuple[tuple[str, ...], ...]] = {
    "aws:ec2/instance:Instance": (("userData",), ("userDataBase64",)),
    "gcp:compute/instance:Instance": (
        ("metadata", "startup-script"),
        ("metadata", "user-data"),
        ("metadataStartupScript",),
    ),
    "azure-native:compute:VirtualMachine": (("osProfile", "customData"), ("userData",)),
}


class NotAState(ValueError):
    """The text is not what `pulumi stack export` writes."""


def sealed(exported: str) -> tuple[str, list[str]]:
    """The export of a stack with all user data secret, and the names of the hosts it was in plain text of.

    Raises:
        NotAState: ``exported`` is no export of a stack.
    """
    try:
        state = json.loads(exported)
        resources = state["deployment"].get("resources") or []
        hosts = [one["urn"].rpartition("::")[2] for one in resources if list(_seal(one))]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotAState("this is not what `pulumi stack export` writes") from error
    return json.dumps(state, indent=4) + "\n", hosts


def _seal(resource: dict[str, Any]) -> Iterator[str]:
    """Makes user data of a resource secret in place; gives what it was in."""
    for values in ("inputs", "outputs"):
        for *above, last in _USER_DATA.get(resource["type"], ()):
            place = resource.get(values) or {}
            for key in above:
                place = place.get(key) or {}
            if isinstance(text := place.get(last), str) and text:
                place[last] = {**_SIGNATURE, "plaintext": json.dumps(text)}
                yield values
