"""Networks as the inventory writes them: what is wrong with one, and how to write it."""

import ipaddress


def network_mistake(text: str) -> tuple[str, str] | None:
    """Why ``text`` is not a network and what to write instead, in words; None when it is one."""
    try:
        ipaddress.ip_network(text)
    except ValueError:
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            return "is not a network", "write it as 203.0.113.0/24"
        return f"has bits beyond its prefix: the network is {network}", f"write it as {network}"
    return None
