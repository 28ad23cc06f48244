"""A signal ends the server: nothing is lost, and nothing is left."""

from __future__ import annotations

import contextlib
import signal
from functools import partial

import pytest
from conformance.contract import ServerFile
from conformance.process import END_TIMEOUT, Server, Servers, wait_until
from conformance.runtimes import BODY_BYTES, CONFIG_HEADER

from sansio_copilot.events import verify_events


@pytest.mark.needs("graceful-shutdown")
def test_sigterm_in_mid_run_ends_every_stream_well_formed(own_server: Server) -> None:
    ends_well_formed(own_server, signal.SIGTERM)


@pytest.mark.one_a_binding
@pytest.mark.needs("graceful-shutdown")
def test_sigint_in_mid_run_ends_every_stream_well_formed(own_server: Server) -> None:
    ends_well_formed(own_server, signal.SIGINT)


def ends_well_formed(server: Server, number: signal.Signals) -> None:
    """Every stream is whole when the server was told to end in its middle."""
    with (
        server.client() as runner,
        server.client() as reader,
        server.client() as plain,
        server.client() as suggestion,
        server.client() as idle,
    ):
        assert idle.request("GET", "/info").status == 200
        streams = [
            runner.stream("run", "t"),
            plain.stream("run", "p", agent="plain"),
            suggestion.stream("suggest", "s"),
        ]
        seen = [stream.events(2) for stream in streams]
        streams.append(reader.stream("connect", "t"))
        seen.append(reader.events(2))
        server.process.send_signal(number)
        for begun, stream in zip(seen, streams, strict=True):
            events = begun + stream.rest()
            verify_events(events)
            assert events[-1]["type"] == "RUN_ERROR"
        problems = server.ended()
        assert not problems, problems[0]


@pytest.mark.needs("graceful-shutdown")
def test_runs_that_end_with_their_server_leave_nothing_that_has_to_be_cancelled(
    own_server: Server,
) -> None:
    """Their store answers late, so that each is interrupted while its agent waits."""
    with own_server.clients(10, "sqlite-store") as clients:
        for number, client in enumerate(clients):
            client.stream("run", f"t{number}").events(2)
        own_server.process.send_signal(signal.SIGTERM)
        for client in clients:
            assert client.rest()[-1]["type"] == "RUN_ERROR"
        own_server.process.wait(END_TIMEOUT)
        assert "cancelled what does not end" not in own_server.log()
        problems = own_server.ended()
        assert not problems, problems[0]


@pytest.mark.owns_sockets
def test_a_signal_ends_a_server_whichever_thread_the_system_gives_it_to(own_server: Server) -> None:
    main, *others = own_server.process.threads()
    own_server.process.send_signal(signal.SIGTERM, to=(others or [main])[-1])
    problems = own_server.ended()
    assert not problems, problems[0]


@pytest.mark.owns_sockets
def test_a_client_that_connected_before_the_signal_is_answered_once(own_server: Server) -> None:
    with own_server.clients(3) as accepted, contextlib.ExitStack() as opened:
        used = accepted[0]
        assert used.request("GET", "/info").headers.get("connection") != "close"
        # The process is stopped, so that the signal comes to it together with the requests, and
        # with connections that it has not accepted yet.
        with own_server.process.stopped():
            waiting = [opened.enter_context(own_server.client()) for _ in range(20)]
            own_server.process.send_signal(signal.SIGTERM)
            for client in (*accepted, *waiting):
                client.send("GET", "/info")
        for client in (*accepted, *waiting):
            assert client.receive().status == 200
            assert client.receive_all() == b""
        problems = own_server.ended()
        assert not problems, problems[0]


@pytest.mark.owns_sockets
def test_a_client_that_never_reads_cannot_hold_up_the_end(own_server: Server) -> None:
    with own_server.client() as client:
        client.stream("run", "t", agent="endless")
        client.receive_bytes(1)
        problems = own_server.end()
        assert not problems, problems[0]


# The test runs with hooks and without, because only during hooks the client is listened to.
@pytest.mark.parametrize("config", ["main", "calm"])
@pytest.mark.needs("gives-up-bodies")
def test_a_client_that_trickles_its_body_cannot_hold_up_the_end(
    own_server: Server, config: str
) -> None:
    with own_server.client() as client:
        lines = (
            f"POST {client.base}/agent/default/run HTTP/1.1",
            "host: x",
            f"{CONFIG_HEADER}: {config}",
            f"content-length: {BODY_BYTES}",
        )
        head = "".join(f"{line}\r\n" for line in (*lines, ""))
        client.send_raw(head.encode() + b" " * (BODY_BYTES // 2))
        # The server has begun to read that body when it answers this request, which came later.
        assert own_server.request("GET", "/info").status == 200
        own_server.process.send_signal(signal.SIGTERM)

        def has_ended() -> bool:
            with contextlib.suppress(ConnectionError):
                client.send_raw(b" ")
            return own_server.process.poll() is not None

        wait_until(has_ended, "it has ended")
        problems = own_server.ended()
        assert not problems, problems[0]


@pytest.mark.once
def test_a_hook_and_a_store_that_hang_cannot_hold_up_the_end(own_server: Server) -> None:
    with own_server.clients(5, "faults") as clients:
        hanging, opening, reading, appending, closing = clients
        hanging.stream("run", "t", headers={"x-fault": "on-before-handler hang", "x-gate": "t"})
        opening.stream("run", "open_run hang:t")
        reading.stream("run", "read hang:t", agent="text")
        appending.stream("run", "append hang:t", agent="text")
        closing.stream("run", "close_run hang:t", agent="text")
        for gate in ("t", "open_run hang:t", "read hang:t", "append hang:t", "close_run hang:t"):
            wait_until(partial(own_server.waits, gate, 1), f"{gate} hangs")
        own_server.process.send_signal(signal.SIGTERM)
        # A call that is given up is logged with a traceback, as every failure of a store is.
        assert own_server.process.wait(END_TIMEOUT) == 0
    for method in ("append", "close_run"):
        assert f"store method {method} does not return, and is given up" in own_server.log()


@pytest.mark.ends_the_server
def test_a_server_ends_clean_after_all_of_these_tests(
    server: Server, server_file: ServerFile, servers: Servers
) -> None:
    """The status is 0, and the log has neither a traceback nor a leak."""
    problems = servers.end()
    assert not problems, problems[0]
