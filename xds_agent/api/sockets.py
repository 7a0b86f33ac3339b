"""The API's Unix sockets: one per Unix group, which is the whole login."""

from __future__ import annotations

import grp
import logging
import os
import socket
import struct
from pathlib import Path
from typing import Any, cast

from uvicorn.protocols.http.h11_impl import H11Protocol

from xds_agent.api.config import Socket

log = logging.getLogger(__name__)


class SocketError(Exception):
    """A socket that cannot be opened; the words say why."""


def open_socket(config: Socket) -> socket.socket:
    """Bind and listen, readable and writable by owner and group only.

    A file left by a control that was killed is replaced; one that is answered is not. Raises SocketError.
    """
    path = config.path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_socket():
            if _answers(path):
                raise SocketError(f"{path} is in use: another xds-agent serve runs on this host")
            path.unlink()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        # Nobody may connect before the group is right.
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        if config.group is not None:
            os.chown(path, -1, grp.getgrnam(config.group).gr_gid)
        path.chmod(0o660)
        listener.listen(128)
    except KeyError as error:
        raise SocketError(f"there is no Unix group {config.group} for {path}; create it first") from error
    except OSError as error:
        raise SocketError(f"cannot open {path}: {error.strerror or error}") from error
    listener.setblocking(False)
    return listener


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


class PeerProtocol(H11Protocol):
    """Puts the Unix user at the other end into each request's state, for the audit."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        peer = cast("socket.socket | None", transport.get_extra_info("socket"))
        if peer is not None and peer.family == socket.AF_UNIX:
            raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            _pid, uid, _gid = struct.unpack("3i", raw)
            self.app_state = {**self.app_state, "uid": uid}
