"""Who greets at each of a host's ports: python3 -c ... HOST PORT..., JSON on stdout."""

import json
import socket
import sys


def greeting(host: str, port: int) -> str:
    with socket.create_connection((host, port), timeout=10) as connection:
        return connection.makefile().readline().strip()


print(json.dumps({port: greeting(sys.argv[1], int(port)) for port in sys.argv[2:]}))
