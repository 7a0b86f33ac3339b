"""How the traffic table judges what requests met."""

import io

from rich.console import Console

from lab import traffic
from lab.checks import Check, Met, echoed, is_likely
from lab.failover import SETTLED, Watch, _judge
from lab.place import HostSpec
from lab.wanted import share_of

PROXY = HostSpec("edge1", "c", "n", "10.128.1.11", ("ingress",), "aws")


def watch(*met: str) -> Watch:
    return Watch(PROXY, met=list(met), clouds=frozenset(("aws", "gcp", "azure")))


def test_steady_answers_of_one_cloud_count_as_settled() -> None:
    assert watch("aws", *["gcp"] * SETTLED).settled_on("gcp")
    assert not watch(*["gcp"] * SETTLED, "aws").settled_on("gcp")
    assert not watch(*["gcp"] * (SETTLED - 1)).settled_on("gcp")


def test_a_lost_request_spoils_the_row() -> None:
    seen = watch("aws", "503", "gcp", "aws")
    met = _judge(seen, {"edge1": 3.0}, {"edge1": 5.0}, 1.0)
    assert not met.as_expected
    assert met.words == "from gcp in 2.0 s, and back; 1 of 4 lost (503)"


def test_a_proxy_that_never_moves_is_told() -> None:
    met = _judge(watch("aws", "503", "503"), {}, {}, 1.0)
    assert not met.as_expected and "never settled on gcp" in met.words


def test_all_kept_is_as_expected() -> None:
    """What a third cloud answered while the next one was asked again is not lost."""
    assert _judge(watch("aws", "azure", "gcp", "aws"), {"edge1": 1.5}, {"edge1": 2.0}, 1.0).as_expected


def test_rows_are_chosen_by_a_word_of_their_name() -> None:
    check = Check("mTLS, a partner", "200", lambda *_: Met("", True))
    assert traffic._asked(check, ()) and traffic._asked(check, ("PARTNER",))
    assert not traffic._asked(check, ("grpc", "tcp"))


def test_a_refused_connection_is_a_row_and_not_a_traceback() -> None:
    def ask(*_: object) -> Met:
        raise ConnectionRefusedError(111, "Connection refused")

    met = traffic._ask(Check("TLS", "200", ask), PROXY, None)  # type: ignore[arg-type]
    assert met == Met("ConnectionRefusedError: [Errno 111] Connection refused", False)


def test_the_table_counts_what_is_not_as_expected() -> None:
    text = io.StringIO()
    rows = [
        traffic.Row("TLS", "edge1", "200", "200", True),
        traffic.Row("TCP", "edge1", "echoed", "[refused]", False),
    ]
    traffic.show(rows, Console(file=text, width=120))
    assert "2 rows, 1 not as expected" in text.getvalue()
    assert "[refused]" in text.getvalue()


def test_an_echo_names_the_backend_that_gave_it() -> None:
    assert echoed('{"host": "backend-gcp1", "echo": "ping"}', "ping") == Met("echoed by backend-gcp1", True)
    assert echoed(b'{"host": "backend-gcp1"}\nping', "ping") == Met("echoed by backend-gcp1", True)
    assert not echoed('{"host": "backend-gcp1", "echo": "pong"}', "ping").as_expected
    assert not echoed("ping", "ping").as_expected


def test_a_split_is_judged_by_what_the_inventory_says() -> None:
    assert is_likely(50, 1000, 0.05) and is_likely(80, 1000, 0.05)
    assert not is_likely(90, 1000, 0.05) and not is_likely(0, 1000, 0.05)
    assert is_likely(545, 1000, 0.55) and not is_likely(50, 1000, 0.55)
    assert is_likely(0, 1000, 0.0) and not is_likely(1, 1000, 0.0)


def test_shares_are_of_the_whole() -> None:
    routes = [
        {"name": "a", "prefix": "/x"},
        {"name": "b", "prefix": "/api", "split": {"shop": 30, "shop-v2": 10}},
    ]
    assert share_of(routes, "/api") == {"shop": 0.75, "shop-v2": 0.25}
    assert share_of(routes, "/x") == {} and share_of([], "/api") == {}
