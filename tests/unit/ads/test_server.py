"""GrpcTransport and ControlServer on a loopback port with mTLS, around a core that records and echoes."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from contextlib import asynccontextmanager

import grpc
import pytest

from tests.support.processes import until
from tests.support.site_pki import TRUST_DOMAIN, SitePki
from xds_agent.ads.client import DELTA_METHOD, REPORT_METHOD, Target, open_channel
from xds_agent.ads.control import ListenError, ServerSettings, serve
from xds_agent.ads.credentials import channel_credentials
from xds_agent.ads.identity import peer_of
from xds_agent.ads.limits import LARGEST_ASKED_BYTES, MIB
from xds_agent.ads.server import SERVER_OPTIONS, GrpcTransport
from xds_agent.pki.renewal import HostFiles, RenewalError, renew_if_due
from xds_agent.proto import marchproxy_pb2 as pb
from xds_agent.protocol.boundary import Close, Closed, Message, Opened, Send, Tick, Wake, Writable


class Recorder:
    """Echoes every message; on b"close" closes the stream, on b"wake" asks for a Tick."""

    def __init__(self):
        self.events = []
        self.happened = asyncio.Event()

    def handle(self, event):
        self.events.append(event)
        self.happened.set()
        match event:
            case Message(stream=number, data=b"close"):
                return [Close(number, grpc.StatusCode.FAILED_PRECONDITION.value[0], "as asked")]
            case Message(data=b"wake"):
                return [Wake(0.0)]
            case Message(stream=number, data=data):
                return [Send((number,), data)]
        return []

    async def wait_for(self, kind, count=1):
        async with asyncio.timeout(30):
            while len(found := [event for event in self.events if isinstance(event, kind)]) < count:
                self.happened.clear()
                await self.happened.wait()
        return found


class Control:
    def __init__(self, pki):
        self.pki = pki
        self.core = Recorder()
        self.reports = []
        self.refused = []
        self.server = None
        self.revoked_elsewhere = []

    async def takes_the_list(self):
        """That another control host signed just now."""
        for serial in self.revoked_elsewhere:
            self.pki.revoke(serial)

    def target(self):
        return Target(f"127.0.0.1:{self.server.port}", "control1")

    @asynccontextmanager
    async def channel(self, files):
        credentials = channel_credentials(files.certificate, files.key, files.ca)
        channel = open_channel(self.target(), credentials)
        try:
            yield channel
        finally:
            await channel.close()

    @asynccontextmanager
    async def stream(self, files, method=DELTA_METHOD):
        async with self.channel(files) as channel:
            yield channel.stream_stream(method)()


@pytest.fixture
async def control(pki):
    control = Control(pki)
    own = pki.host("control1")
    settings = ServerSettings("127.0.0.1", 0, TRUST_DOMAIN, own.certificate, own.key, own.ca, own.crl)
    control.server = await serve(
        control.core, settings, on_report=lambda *said: control.reports.append(said),
        on_refused=control.refused.append, issuer=pki.issuer, before_renewal=control.takes_the_list,
    )  # fmt: skip
    yield control
    await control.server.stop(grace_s=0.1)


async def refused(call):
    with pytest.raises(grpc.aio.AioRpcError) as error:
        async with asyncio.timeout(30):
            # The stream may have ended before anything is written: reading says how.
            with contextlib.suppress(asyncio.InvalidStateError):
                await call.write(b"hello")
            while await call.read() is not grpc.aio.EOF:
                pass
            raise AssertionError(f"ended with {await call.code()}")
    return error.value


async def test_a_host_is_opened_under_the_name_its_certificate_proves(control):
    files = control.pki.host("edge1")
    async with control.stream(files) as call:
        await call.write(b"hello")
        assert await call.read() == b"hello"
        [opened] = await control.core.wait_for(Opened)
        assert (opened.identity, opened.serial) == ("edge1", f"{files.serial:X}")
        await control.core.wait_for(Writable)
    await control.core.wait_for(Closed)
    assert control.server.open_streams == 0


async def test_the_core_closes_a_stream_with_status_and_words(control):
    async with control.stream(control.pki.host("edge1")) as call:
        await call.write(b"close")
        error = await refused(call)
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert error.details() == "as asked"
    [closed] = await control.core.wait_for(Closed)
    assert closed.reason == "as asked"


async def test_a_wake_becomes_a_tick(control):
    async with control.stream(control.pki.host("edge1")) as call:
        await call.write(b"wake")
        await control.core.wait_for(Tick)


async def test_frames_of_ten_megabytes_pass(control):
    big = bytes(10_000_000)
    async with control.stream(control.pki.host("edge1")) as call:
        await call.write(big)
        assert await call.read() == big


async def test_a_revoked_certificate_opens_nothing_and_is_audited(control):
    files = control.pki.host("edge1")
    control.pki.revoke(files.serial)
    async with control.stream(files) as call:
        error = await refused(call)
    assert error.code() == grpc.StatusCode.PERMISSION_DENIED
    assert "revoked" in error.details()
    [refusal] = control.refused
    assert (refusal.identity, refusal.serial) == ("edge1", f"{files.serial:X}")
    assert control.core.events == []


async def test_revocation_closes_the_open_stream_of_that_host_only(control):
    bad, good = control.pki.host("edge1"), control.pki.host("edge2")
    async with control.stream(bad) as one, control.stream(good) as other:
        for call in (one, other):
            await call.write(b"hello")
            assert await call.read() == b"hello"
        control.pki.revoke(bad.serial)
        error = await refused(one)
        assert error.code() == grpc.StatusCode.PERMISSION_DENIED
        await other.write(b"still here")
        assert await other.read() == b"still here"
    assert [refusal.identity for refusal in control.refused] == ["edge1"]


async def test_a_stream_ends_with_its_certificate(control):
    files = control.pki.host("edge1", life=dt.timedelta(seconds=8))
    async with control.stream(files) as call:
        await call.write(b"hello")
        assert await call.read() == b"hello"
        error = await refused(call)
    assert error.code() == grpc.StatusCode.PERMISSION_DENIED
    assert "expired" in error.details()


async def test_a_stale_list_refuses_with_unavailable(control):
    files = control.pki.host("edge1")
    control.pki.write_crl(now=dt.datetime.now(dt.UTC) - dt.timedelta(days=8))
    async with control.stream(files) as call:
        error = await refused(call)
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert "stale" in error.details()


async def test_foreign_expired_and_missing_certificates_never_reach_the_core(control, tmp_path):
    foreign = SitePki(tmp_path / "foreign").host("edge1")
    foreign.ca = control.pki.folder / "ca.crt"
    expired = control.pki.host("edge2", life=dt.timedelta(seconds=-60))
    for files in (foreign, expired):
        async with control.stream(files) as call:
            assert (await refused(call)).code() == grpc.StatusCode.UNAVAILABLE
    credentials = grpc.ssl_channel_credentials((control.pki.folder / "ca.crt").read_bytes())
    async with open_channel(control.target(), credentials) as channel:
        assert (await refused(channel.stream_stream(DELTA_METHOD)())).code() == grpc.StatusCode.UNAVAILABLE
    assert control.core.events == []


async def test_control_must_prove_its_own_name(control):
    files = control.pki.host("edge1")
    credentials = channel_credentials(files.certificate, files.key, files.ca)
    target = Target(control.target().address, "control2")
    async with open_channel(target, credentials) as channel:
        assert (await refused(channel.stream_stream(DELTA_METHOD)())).code() == grpc.StatusCode.UNAVAILABLE


async def test_a_renewed_server_certificate_serves_new_handshakes_without_a_restart(control):
    files = control.pki.host("edge1")
    async with control.stream(files) as old:
        await old.write(b"hello")
        assert await old.read() == b"hello"
        control.pki.host("control1")
        proved = await asyncio.to_thread(_served_serial, control.server.port, files)
        expected = (control.pki.folder / "control1" / "host.crt").read_bytes()
        assert proved == _serial(expected)
        await old.write(b"again")
        assert await old.read() == b"again"


def _serial(pem):
    from cryptography import x509

    return x509.load_pem_x509_certificates(pem)[0].serial_number


def _served_serial(port, files):
    import socket
    import ssl

    from cryptography import x509

    context = ssl.create_default_context(cafile=str(files.ca))
    context.load_cert_chain(files.certificate, files.key)
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="control1") as secured,
    ):
        return x509.load_der_x509_certificate(secured.getpeercert(binary_form=True)).serial_number


async def test_reports_come_under_the_certificates_name(control):
    async with control.channel(control.pki.host("edge1")) as channel:
        call = channel.stream_stream(
            REPORT_METHOD,
            request_serializer=pb.ReportRequest.SerializeToString,
            response_deserializer=pb.ReportResponse.FromString,
        )()
        await call.write(pb.ReportRequest(hello=pb.Hello(agent_version="0.1.0")))
        assert (await call.read()).heartbeat_s == 10
        await call.write(pb.ReportRequest(heartbeat=pb.Heartbeat(envoy_state="LIVE")))
        await until(lambda: len(control.reports) == 2)
    assert control.reports[0] == ("edge1", pb.Hello(agent_version="0.1.0"))
    assert control.reports[1] == ("edge1", pb.Heartbeat(envoy_state="LIVE"))


async def test_stopping_ends_streams_so_that_nodes_go_elsewhere(control):
    async with control.stream(control.pki.host("edge1")) as call:
        await call.write(b"hello")
        assert await call.read() == b"hello"
        stopped = asyncio.create_task(control.server.stop(grace_s=2.0))
        error = await refused(call)
        assert error.code() == grpc.StatusCode.UNAVAILABLE
        await stopped


async def test_a_port_in_use_is_named(control):
    own = control.pki.host("control1")
    settings = ServerSettings(
        "127.0.0.1", control.server.port, TRUST_DOMAIN, own.certificate, own.key, own.ca, own.crl
    )
    with pytest.raises(ListenError, match=str(control.server.port)):
        await serve(Recorder(), settings, on_report=lambda *said: None)


async def test_a_node_renews_its_certificate_here_and_only_under_its_own_name(control):
    files = control.pki.host("edge1")
    before = files.certificate.read_bytes()
    mine = HostFiles(files.certificate, files.key, control.pki.folder / "edge1-ca.crt", None)
    mine.ca.write_bytes(files.ca.read_bytes())
    address, now = control.target().address, dt.datetime.now(dt.UTC) + dt.timedelta(seconds=2)
    await asyncio.sleep(1.1)  # certificates count in whole seconds, and a renewed one must end later
    renewed = await asyncio.to_thread(
        renew_if_due, "some-other-name", mine, [address], ["control1"], now=now, force=True
    )
    assert renewed
    assert peer_of(files.certificate.read_bytes(), TRUST_DOMAIN).name == "edge1"
    assert files.certificate.read_bytes() != before
    async with control.stream(files) as call:
        await call.write(b"hello")
        assert await call.read() == b"hello"


async def test_whom_another_control_host_revoked_just_now_renews_nothing_here(control):
    """Else the new certificate, which nobody has revoked, would be its way back."""
    files = control.pki.host("edge1")
    before = files.certificate.read_bytes()
    mine = HostFiles(files.certificate, files.key, control.pki.folder / "edge1-ca.crt", None)
    mine.ca.write_bytes(files.ca.read_bytes())
    control.revoked_elsewhere = [files.serial]
    address, now = control.target().address, dt.datetime.now(dt.UTC)
    with pytest.raises(RenewalError, match="revoked"):
        await asyncio.to_thread(renew_if_due, "edge1", mine, [address], ["control1"], now=now, force=True)
    assert files.certificate.read_bytes() == before


async def test_a_peer_that_takes_nothing_is_closed_and_its_neighbour_is_not(tmp_path):
    core = Recorder()
    transport = GrpcTransport(core, stalled_write_s=2.0)
    server = grpc.aio.server(options=SERVER_OPTIONS)
    server.add_generic_rpc_handlers((transport.handler(),))
    server.add_insecure_port(f"unix:{tmp_path}/xds.sock")
    await server.start()
    options = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))
    async with (
        grpc.aio.insecure_channel(f"unix:{tmp_path}/xds.sock", options=options) as one,
        grpc.aio.insecure_channel(
            f"unix:{tmp_path}/xds.sock", options=(*options, ("grpc.use_local_subchannel_pool", 1))
        ) as other,
    ):
        deaf, lively = one.stream_stream(DELTA_METHOD)(), other.stream_stream(DELTA_METHOD)()
        # The first echo fills the flow-control window, since nobody reads it; the second cannot leave.
        await deaf.write(bytes(20_000_000))
        [closed] = await core.wait_for(Closed)
        assert "took nothing" in closed.reason
        await lively.write(b"hello")
        assert await lively.read() == b"hello"
        deaf.cancel()
    await server.stop(0.2)
    transport.stop()


async def test_a_message_beyond_the_bound_ends_its_stream_in_words(tmp_path):
    core = Recorder()
    transport = GrpcTransport(core, largest_bytes=2 * MIB)
    server = grpc.aio.server(options=SERVER_OPTIONS)
    server.add_generic_rpc_handlers((transport.handler(),))
    server.add_insecure_port(f"unix:{tmp_path}/xds.sock")
    await server.start()
    options = (("grpc.max_send_message_length", -1),)
    try:
        async with grpc.aio.insecure_channel(f"unix:{tmp_path}/xds.sock", options=options) as channel:
            for size, words in (
                (3 * MIB, "a response of 3.0 MiB is larger than the 2 MiB that one may have"),
                (LARGEST_ASKED_BYTES + 1, "larger than max"),
            ):
                call = channel.stream_stream(DELTA_METHOD)()
                await call.write(bytes(size))
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await call.read()
                assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
                assert words in error.value.details()
    finally:
        await server.stop(0.2)
