"""What the modules say when control's socket does not answer as wanted, over real Unix sockets."""

import http.server
import json
import os
import shutil
import socket
import socketserver
import tempfile
import threading
from pathlib import Path

import pytest


@pytest.fixture
def folder():
    made = Path(tempfile.mkdtemp(prefix="mps-"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def answering(folder):
    """answering(status, body) is the path of a socket that answers every request so."""
    servers = []

    def start(status, body):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["content-length"]))
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def address_string(self):
                return "unix"

            def log_message(self, *arguments):
                pass

        server = socketserver.ThreadingUnixStreamServer(str(folder / "s"), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return str(folder / "s")

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def refused(utils, path, timeout=5.0):
    module = utils("control_socket")
    with pytest.raises(module.ControlError) as caught:
        module.request(path, "POST", "/v1/revisions", {"a": 1}, timeout=timeout)
    return caught.value


def test_an_answer_is_its_json(utils, answering):
    request = utils("control_socket").request
    assert request(answering(200, {"number": 3}), "POST", "/v1/revisions", {}) == {"number": 3}


def test_no_socket_names_the_next_step(utils, folder):
    error = refused(utils, str(folder / "none"))
    assert error.kind == "absent"
    assert "run site.yml --tags xds_agent" in str(error)


def test_a_socket_nobody_answers(utils, folder):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(folder / "s"))
    error = refused(utils, str(folder / "s"))
    assert (error.kind, "has stopped" in str(error)) == ("absent", True)


def test_problems_are_all_listed(utils, answering):
    problems = [{"text": "one"}, {"text": "two"}]
    error = refused(utils, answering(422, {"problems": problems}))
    assert str(error) == "2 problems in the inventory:\n  one\n  two"
    assert error.answer["problems"] == problems


@pytest.mark.parametrize(
    ("status", "kind"), [(409, "refused"), (403, "denied"), (507, "full"), (500, "broken")]
)
def test_words_and_remedy(utils, answering, status, kind):
    error = refused(utils, answering(status, {"error": "why not", "remedy": "do this"}))
    assert (error.kind, str(error)) == (kind, "why not; do this")


def test_an_answer_without_json(utils, answering):
    assert "control answered 502 with no JSON" in str(refused(utils, answering(502, b"<html>")))


def test_a_connection_that_breaks_says_that_nothing_is_half_done(utils, folder):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "s"))
    listener.listen()

    def hang_up():
        peer, _ = listener.accept()
        peer.recv(10)
        peer.close()

    threading.Thread(target=hang_up, daemon=True).start()
    assert "nothing is half done" in str(refused(utils, str(folder / "s")))
    listener.close()


def test_silence_ends(utils, folder):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "s"))
        listener.listen()
        assert "did not answer within" in str(refused(utils, str(folder / "s"), timeout=0.05))


@pytest.mark.root
def test_a_socket_of_another_group_names_it(utils, answering, folder):
    """As user nobody, in a child of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    path = answering(200, {})
    Path(path).chmod(0o660)
    folder.chmod(0o755)
    request, error_type = utils("control_socket").request, utils("control_socket").ControlError
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            request(path, "POST", "/v1/revisions", {})
            words = "it answered"
        except error_type as error:
            words = f"{error.kind}: {error}"
        except BaseException as error:
            words = repr(error)
        os.write(writer, words.encode())
        os._exit(0)
    os.waitpid(child, 0)
    words = os.read(reader, 4096).decode()
    os.close(reader)
    os.close(writer)
    assert words.startswith("denied: user ")
    assert f"may not open {path}; add it to Unix group root" in words
