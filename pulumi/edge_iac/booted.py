"""Images that the hosts of a stack booted from: what is there already needs none looked up.

A public image is withdrawn some day. Were it looked up for hosts that keep what they have, no `up` of a site
would work from that day on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_INSTANCE = re.compile(r"::edge:aws:Hosts\$aws:ec2/instance:Instance::([^:]+)$")


def booted(held: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Host of AWS -> id of its image.

    Args:
        held: URN -> type and outputs of all that the stack holds, as the engine tells them.
    """
    return {
        found[1]: str(image)
        for urn, resource in held.items()
        if (found := _INSTANCE.search(urn)) and (image := resource["outputs"].get("ami"))
    }
