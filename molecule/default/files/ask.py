"""Ask a proxy over HTTPS and TCP; prints what came back as JSON. Arguments: address, name of the site."""

import http.client
import json
import socket
import ssl
import sys

address, name = sys.argv[1:]


def https(host):
    context = ssl.create_default_context(cafile="/etc/marchproxy/pki/ca.crt")
    connection = http.client.HTTPSConnection(address, 443, timeout=20)
    plain = socket.create_connection((address, 443), 20)
    connection.sock = context.wrap_socket(plain, server_hostname=name)
    connection.request("GET", "/", headers={"Host": host})
    answer = connection.getresponse()
    return {"status": answer.status, "host": answer.getheader("x-backend-host")}


def tcp():
    with socket.create_connection((address, 7000), 20) as connection:
        connection.sendall(b"ping\n")
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(4096), b"")).decode()


print(json.dumps({"https": https(name), "unknown_host": https("other.example.org"), "tcp": tcp()}))
