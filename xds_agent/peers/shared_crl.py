"""One revocation list for all control hosts: the leader signs it, the database carries it, everybody has it.

Two hosts that each signed their own would number them alike and revoke differently.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from xds_agent.pki.files import replace_files
from xds_agent.pki.issuer import Issuer
from xds_agent.pki.revocation import lists_of, number_of, own_list
from xds_agent.store import Store
from xds_agent.store.schema import SharedRow


def take(store: Store, path: Path, issuer: Issuer) -> bool:
    """Write the list that the database holds, if it is newer than the file's own; True if it was."""
    with store.read() as session:
        row = session.get(SharedRow, _key(issuer))
        held = (row.version, row.content) if row is not None else (0, b"")
    lists = lists_of(path.read_bytes()) if path.exists() else []
    own = own_list(lists, issuer)
    if held[0] <= number_of(own):
        return False
    others = [crl.public_bytes(Encoding.PEM) for crl in lists if crl is not own]
    replace_files({path: (held[1] + b"".join(others), 0o644)})
    return True


def give(store: Store, path: Path, issuer: Issuer) -> None:
    """Put the file's own list into the database, if it is newer than what that holds."""
    own = own_list(lists_of(path.read_bytes()) if path.exists() else [], issuer)
    number = number_of(own)
    with store.read() as session:
        held = session.get(SharedRow, _key(issuer))
        if own is None or (held is not None and held.version >= number):
            return
    with store.write() as session:
        row = session.get(SharedRow, _key(issuer))
        if row is None:
            row = SharedRow(name=_key(issuer), version=0, content=b"")
            session.add(row)
        if row.version < number:
            row.version, row.content = number, own.public_bytes(Encoding.PEM)


def _key(issuer: Issuer) -> str:
    """A new issuing CA begins a list of its own."""
    return f"crl/{hashlib.sha256(issuer.pem).hexdigest()[:16]}"
