"""Why a certificate must be issued anew."""

from __future__ import annotations

DOCUMENTATION = r"""
name: certificate_due
short_description: Why a certificate must be issued anew
version_added: 0.1.0
author: The MarchProxy authors (@marchproxy)
description:
  - Judges a certificate as M(marchproxy.edge.host_facts) saw it. Pure.
options:
  _input:
    description: The certificate (an entry of C(marchproxy_host.certificates)), or null where there is none.
    type: dict
    required: true
  now:
    description: The host's time, C(marchproxy_host.now).
    type: str
    required: true
  names:
    description: Subject alternative names it must hold, and no others, as openssl writes them.
    type: list
    elements: str
    default: []
  issuer_key:
    description: Identifier of the key that must have signed it; empty accepts any.
    type: str
    default: ""
"""

EXAMPLES = r"""
- ansible.builtin.debug:
    msg: "{{ marchproxy_host.certificates['/etc/marchproxy/pki/host.crt']
      | marchproxy.edge.certificate_due(now=marchproxy_host.now) }}"
"""

RETURN = r"""
_value:
  description: The reason in words; empty while the certificate may stay.
  type: str
"""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def _time(text: str) -> dt.datetime:
    """A time as `openssl -dateopt iso_8601` and our facts write it: 2026-11-25 03:08:45Z."""
    return dt.datetime.strptime(text, "%Y-%m-%d %H:%M:%SZ").replace(tzinfo=dt.UTC)


def certificate_due(
    certificate: Mapping[str, Any] | None, now: str, names: Sequence[str] = (), issuer_key: str = ""
) -> str:
    """Reason to issue anew: missing, other names, other issuer, or two thirds of its life are over."""
    if not certificate:
        return "there is none"
    if names and sorted(certificate["names"]) != sorted(names):
        return f"it names {', '.join(certificate['names']) or 'nothing'}, not {', '.join(names)}"
    if issuer_key and certificate["issuer_key"] != issuer_key:
        return "another authority signed it"
    start, end, present = _time(certificate["not_before"]), _time(certificate["not_after"]), _time(now)
    if present >= end:
        return f"it expired on {end:%Y-%m-%d}"
    if present >= start + (end - start) * 2 / 3:
        return f"two thirds of its life are over (it ends on {end:%Y-%m-%d})"
    return ""


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"certificate_due": certificate_due}
