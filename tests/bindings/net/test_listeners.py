"""The bindings that own their sockets listen on addresses, on Unix sockets, and with TLS."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import functools
import json
import logging
import os
import queue
import re
import socket
import ssl
import stat
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio
import trustme
from conformance.resources import is_open

from copilot_bindings.net import listeners, shortage
from copilot_bindings.net.listeners import Listeners
from sansio_copilot import CopilotRuntime, Limits, text_agent
from sansio_copilot.testing import run_input

BASE = "/api/copilotkit"


@text_agent
def hello(input: Any, context: Any) -> Iterator[str]:
    yield "Hello"


def by_asyncio(runtime: CopilotRuntime, ready: Callable[[Any], None], **where: Any) -> None:
    from copilot_bindings.asyncio import Server, serve

    def begun(server: Server) -> None:
        loop = asyncio.get_running_loop()
        server.stop = lambda: loop.call_soon_threadsafe(server.begin_close)  # type: ignore[attr-defined]
        ready(server)

    asyncio.run(serve(runtime, grace_seconds=0, ready=begun, **where))


def by_trio(runtime: CopilotRuntime, ready: Callable[[Any], None], **where: Any) -> None:
    from copilot_bindings.trio import Server, serve

    def begun(server: Server) -> None:
        token = trio.lowlevel.current_trio_token()
        server.stop = lambda: token.run_sync_soon(server.begin_close)  # type: ignore[attr-defined]
        ready(server)

    trio.run(functools.partial(serve, runtime, grace_seconds=0, ready=begun, **where))


def by_sockets(runtime: CopilotRuntime, ready: Callable[[Any], None], **where: Any) -> None:
    from copilot_bindings.sockets import Server, serve

    def begun(server: Server) -> None:
        server.stop = server.begin_close  # type: ignore[attr-defined]
        ready(server)

    serve(runtime, grace_seconds=0, ready=begun, **where)


SPOKEN = 60 * 100_000


@text_agent
def speaker(input: Any, context: Any) -> Iterator[str]:
    for _ in range(60):
        yield "x" * 100_000


async def waiting(input: Any, context: Any) -> AsyncIterator[dict[str, Any]]:
    yield {"type": "RUN_STARTED", "threadId": input.thread_id, "runId": input.run_id}
    await anyio.sleep_forever()


@pytest.fixture(params=[by_asyncio, by_trio, by_sockets], ids=lambda by: by.__name__[3:])
def serving(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """A server of each binding in a thread, on a free port unless told otherwise."""

    @contextlib.contextmanager
    def serving(limits: Limits | None = None, **where: Any) -> Iterator[Any]:
        runtime = CopilotRuntime(
            {"default": hello, "speaker": speaker, "waiting": waiting}, limits=limits
        )
        told: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def main() -> None:
            try:
                request.param(runtime, told.put, **{"port": 0, **where})
            except BaseException as error:
                told.put(error)

        thread = threading.Thread(target=main)
        thread.start()
        server = told.get(timeout=30)
        if isinstance(server, BaseException):
            thread.join(30)
            raise server

        def end() -> None:
            server.stop()
            thread.join(30)
            assert not thread.is_alive()

        server.end = end
        try:
            yield server
        finally:
            if thread.is_alive():
                end()

    return serving


def ask(connection: socket.socket) -> bytes:
    """Make a request, and return everything up to the end of the connection."""
    with connection:
        connection.settimeout(30)
        head = f"GET {BASE}/info HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        connection.sendall(head.encode())
        data = b""
        while piece := connection.recv(65536):
            data += piece
    return data


def test_a_free_port_is_chosen(serving: Callable[..., Any]) -> None:
    with serving() as server:
        data = ask(socket.create_connection(("127.0.0.1", server.port)))
        assert data.startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_socket_that_is_bound_already_is_served_and_closed_at_the_end(
    serving: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """systemd hands such a socket to a service; the server closes it."""
    caplog.set_level(logging.INFO, "copilot_bindings")
    given = socket.create_server(("127.0.0.1", 0), backlog=1)
    port = given.getsockname()[1]
    with serving(sock=given) as server:
        assert server.port == port
        data = ask(socket.create_connection(("127.0.0.1", port)))
        assert data.startswith(b"HTTP/1.1 200 OK\r\n")
    assert given.fileno() == -1
    assert f"serving on http://127.0.0.1:{port}" in caplog.messages
    assert caplog.messages[-1] == "shut down"


def test_a_unix_socket_that_is_bound_already_is_served_and_its_path_stays(
    serving: Callable[..., Any], tmp_path: Path
) -> None:
    """The path belongs to the process that bound it, and stays."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as given, socket.socket(socket.AF_UNIX) as client:
        given.bind(str(path))
        with serving(sock=given) as server:
            assert server.port == 0
            client.connect(str(path))
            assert ask(client).startswith(b"HTTP/1.1 200 OK\r\n")
    assert path.exists()


@pytest.mark.parametrize("sock", [4000, "127.0.0.1", object()])
def test_a_value_that_is_no_socket_is_refused(serving: Callable[..., Any], sock: Any) -> None:
    with pytest.raises(ValueError, match="sock must be a socket, got "), serving(sock=sock):
        pass


def test_a_socket_that_does_not_fit_is_refused(serving: Callable[..., Any]) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        with pytest.raises(ValueError, match="sock must be a stream socket"):
            with serving(sock=datagrams):
                pass
    with socket.socket() as stream:
        with pytest.raises(ValueError, match="and unix a path to bind one to"):
            with serving(sock=stream, unix="/nowhere"):
                pass


def test_how_many_connections_and_runs_there_are(serving: Callable[..., Any]) -> None:
    with serving() as server:
        assert (server.connections, server.runs) == (0, 0)
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.settimeout(30)
            client.sendall(f"GET {BASE}/info HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            assert client.recv(100)
            assert (server.connections, server.runs) == (1, 0)
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            body = json.dumps(run_input("t")).encode()
            head = f"POST {BASE}/agent/waiting/run HTTP/1.1\r\nhost: x\r\n"
            client.sendall(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
            client.settimeout(30)
            while b"RUN_STARTED" not in client.recv(65536):
                pass
            assert server.runs == 1


def test_a_server_listens_on_every_address_of_a_name(serving: Callable[..., Any]) -> None:
    addresses = {info[4][0] for info in socket.getaddrinfo("localhost", 0)}
    with serving(host="localhost") as server:
        for address in addresses:
            data = ask(socket.create_connection((str(address), server.port)))
            assert data.startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_port_that_is_taken_is_told_with_its_address(serving: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = rf"cannot listen on \('127.0.0.1', {port}\): address already in use"
        with pytest.raises(OSError, match=message), serving(port=port):
            pass


@pytest.mark.parametrize(
    "port", [-1, 65536, 70000, 2**32, True, False, "4000", b"1", None, 1.0, 4000.0]
)
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_a_port_that_is_none_is_refused(serving: Callable[..., Any], host: str, port: Any) -> None:
    message = re.escape(f"port must be a whole number from 0 to 65535, got {port!r}")
    with pytest.raises(ValueError, match=message), serving(host=host, port=port):
        pass


def test_a_host_that_is_none_is_told_by_its_name(serving: Callable[..., Any]) -> None:
    with pytest.raises(OSError, match=r"cannot listen on 'nobody\.invalid': "):
        with serving(host="nobody.invalid"):
            pass


def test_an_address_of_a_name_that_this_machine_has_not_is_passed_over(
    serving: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name "localhost" has such an address where IPv6 is switched off."""
    ours, tcp = ("127.0.0.1", 0), (socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
    known = [
        # The addresses are in the range for documentation (RFC 3849), and of a family that nobody
        # has.
        (socket.AF_INET6, *tcp, ("2001:db8::1", 0, 0, 0)),
        (200, *tcp, ("x", 0)),
        (socket.AF_INET, *tcp, ours),
    ]
    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", lambda *args, **options: known)
        with serving() as server:
            patch.undo()
            data = ask(socket.create_connection(("127.0.0.1", server.port)))
            assert data.startswith(b"HTTP/1.1 200 OK\r\n")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: known[:2])
    with pytest.raises(OSError, match=r"cannot listen on \('x', 0\): "), serving():
        pass


def test_small_writes_are_not_held_back(serving: Callable[..., Any]) -> None:
    """Nagle's algorithm would hold each event for the client's delayed acknowledgement."""
    with serving() as server:
        for _ in range(10):
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.settimeout(30)
                client.sendall(f"GET {BASE}/info HTTP/1.1\r\nhost: x\r\n\r\n".encode())
                assert client.recv(100)
        option = (socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert accepted_options(server, *option) == {1}


def accepted_options(server: Any, level: int, option: int) -> set[int]:
    """An option of the sockets that this process has accepted on the server's port."""
    clients: list[socket.socket] = []
    for _ in range(3):
        client = socket.create_connection(("127.0.0.1", server.port))
        client.settimeout(30)
        client.sendall(f"GET {BASE}/info HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        client.recv(100)
        clients.append(client)
    peers = {client.getsockname() for client in clients}
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            duplicate = socket.socket(fileno=os.dup(int(name)))
            with duplicate:
                if duplicate.getpeername() in peers:
                    found.add(duplicate.getsockopt(level, option))
    for client in clients:
        client.close()
    return found


class TestShortage:
    """Attempts to accept that fail are logged."""

    def test_a_shortage_is_logged_once_however_often_it_comes(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = [1000.0]
        monkeypatch.setattr("copilot_bindings.net.shortage.time.monotonic", lambda: now[0])
        lasting = shortage.Shortage()
        for _ in range(1000):
            for number in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                assert lasting.begins(OSError(number, "x"))
            now[0] += 0.05
        assert len(caplog.records) == 1
        now[0] += 60
        assert lasting.begins(OSError(errno.EMFILE, "x"))
        first, second = [record.getMessage() for record in caplog.records]
        assert (
            first
            == second
            == ("no connection can be accepted until there is room: too many open files")
        )
        assert not any(record.exc_info for record in caplog.records)

    @pytest.mark.parametrize(
        "number", [errno.EAGAIN, errno.EINTR, errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN]
    )
    def test_a_client_that_has_gone_again_is_no_shortage(
        self, caplog: pytest.LogCaptureFixture, number: int
    ) -> None:
        assert not shortage.Shortage().begins(OSError(number, "x"))
        assert not caplog.records


class TestUnix:
    """Unix sockets."""

    def test_a_server_on_a_path_serves_and_leaves_nothing(
        self, serving: Callable[..., Any], tmp_path: Path
    ) -> None:
        path = tmp_path / "server.sock"
        with serving(unix=str(path)) as server:
            assert server.port == 0
            assert stat.S_ISSOCK(path.stat().st_mode)
            for _ in range(2):
                client = socket.socket(socket.AF_UNIX)
                client.connect(str(path))
                assert ask(client).startswith(b"HTTP/1.1 200 OK\r\n")
        assert not path.exists()

    def test_the_socket_of_a_killed_server_is_in_nobodys_way(
        self, serving: Callable[..., Any], tmp_path: Path
    ) -> None:
        path = tmp_path / "server.sock"
        with socket.socket(socket.AF_UNIX) as killed:
            killed.bind(str(path))
        with serving(unix=str(path)):
            client = socket.socket(socket.AF_UNIX)
            client.connect(str(path))
            assert ask(client).startswith(b"HTTP/1.1 200 OK\r\n")

    def test_a_file_is_never_removed(self, serving: Callable[..., Any], tmp_path: Path) -> None:
        path = tmp_path / "precious"
        path.write_text("data")
        with pytest.raises(OSError, match="address already in use"), serving(unix=str(path)):
            pass
        assert path.read_text() == "data"

    def connect(self, path: str | Path) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        try:
            client.connect(str(path))
        except OSError:
            client.close()
            raise
        return client

    def assert_served(self, path: str | Path) -> None:
        assert ask(self.connect(path)).startswith(b"HTTP/1.1 200 OK\r\n")

    @pytest.mark.parametrize("kind", [str, Path])
    def test_a_path_that_another_server_listens_at_is_refused_and_left_to_it(
        self, serving: Callable[..., Any], tmp_path: Path, kind: Any
    ) -> None:
        path = tmp_path / "server.sock"
        with serving(unix=path):
            with pytest.raises(OSError, match="another server listens there") as raised:
                with serving(unix=kind(path)):
                    pass
            assert raised.value.errno == errno.EADDRINUSE
            self.assert_served(path)
        assert not path.exists()

    def test_a_server_that_is_too_busy_to_accept_is_left_alone(
        self, serving: Callable[..., Any], tmp_path: Path
    ) -> None:
        path = tmp_path / "server.sock"
        with socket.socket(socket.AF_UNIX) as busy, contextlib.ExitStack() as clients:
            busy.bind(str(path))
            busy.listen(0)
            # The clients connect until the backlog is full.
            with contextlib.suppress(BlockingIOError):
                while True:
                    client = clients.enter_context(socket.socket(socket.AF_UNIX))
                    client.setblocking(False)
                    client.connect(str(path))
            with pytest.raises(OSError, match="another server listens there"):
                with serving(unix=path):
                    pass
            assert path.exists()

    def test_a_rolling_restart_takes_the_path_over(
        self, serving: Callable[..., Any], tmp_path: Path
    ) -> None:
        """The new server's socket takes the old one's place, and stays when that ends."""
        path, new = tmp_path / "server.sock", tmp_path / "new.sock"
        with serving(unix=path) as first:
            with serving(unix=new):
                new.rename(path)
                self.assert_served(path)
                first.end()
                self.assert_served(path)
        # The second server's path is not known any more, because its socket was renamed.
        with pytest.raises(ConnectionRefusedError):
            self.connect(path)

    def test_another_server_takes_a_path_that_was_removed(
        self, serving: Callable[..., Any], tmp_path: Path
    ) -> None:
        path = tmp_path / "server.sock"
        with serving(unix=path) as first:
            path.unlink()
            with serving(unix=path):
                first.end()
                self.assert_served(path)
            assert not path.exists()

    @pytest.mark.parametrize("mode", [0o600, 0o660, 0o666, 0o777])
    def test_a_unix_socket_has_the_mode_that_is_asked_for(
        self, serving: Callable[..., Any], tmp_path: Path, mode: int
    ) -> None:
        path = tmp_path / "server.sock"
        with serving(unix=path, unix_mode=mode):
            assert stat.S_IMODE(path.stat().st_mode) == mode
            self.assert_served(path)

    def test_an_abstract_name_is_listened_at(
        self, serving: Callable[..., Any], tmp_path: Path
    ) -> None:
        name = f"\0{tmp_path.name}"
        with serving(unix=name) as server:
            assert server.port == 0
            self.assert_served(name)
            with pytest.raises(OSError, match="address already in use"), serving(unix=name):
                pass
            self.assert_served(name)
        with pytest.raises(ConnectionRefusedError):
            self.connect(name)

    def test_a_path_that_is_too_long_is_refused(
        self, serving: Callable[..., Any], tmp_path: Path
    ) -> None:
        for path in (tmp_path / ("x" * 110), "\0" + "x" * 110):
            with pytest.raises(OSError, match="take a shorter one") as raised:
                with serving(unix=path):
                    pass
            assert raised.value.errno == errno.ENAMETOOLONG

    def test_a_path_in_a_directory_that_is_not_there_is_refused(
        self, serving: Callable[..., Any], tmp_path: Path
    ) -> None:
        with pytest.raises(FileNotFoundError, match=r"cannot listen on .*no such file"):
            with serving(unix=tmp_path / "nowhere" / "server.sock"):
                pass

    @pytest.mark.parametrize(
        ("where", "message"),
        [
            ({"unix": ""}, "is empty"),
            ({"unix": "\0"}, "is empty"),
            ({"unix": "a\0b"}, "without NUL"),
            ({"unix": b"path"}, "must be a path"),
            ({"unix": 4000}, "must be a path"),
            ({"unix": True}, "must be a path"),
            ({"unix": "x", "unix_mode": "660"}, "unix_mode must be a number"),
            ({"unix": "x", "unix_mode": True}, "unix_mode must be a number"),
            ({"unix": "x", "unix_mode": 0o1777}, "unix_mode must be a number"),
            ({"unix": "x", "unix_mode": -1}, "unix_mode must be a number"),
            ({"unix": "\0x", "unix_mode": 0o660}, "no permissions"),
            ({"unix_mode": 0o660}, "there is no path"),
        ],
    )
    def test_a_value_that_is_no_path_is_refused(
        self, serving: Callable[..., Any], where: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ValueError, match=message), serving(**where):
            pass


def test_one_of_two_servers_that_begin_at_once_has_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one looks at the path while the first is bound and does not listen yet."""
    path = str(tmp_path / "socket")
    looking, listening = threading.Event(), threading.Event()
    refused: list[OSError] = []
    rename, flock = os.rename, fcntl.flock

    def second() -> None:
        try:
            Listeners("", 0, path).close()
        except OSError as error:
            refused.append(error)

    def wait_and_rename(source: str, target: str) -> None:
        looking.set()
        assert listening.wait(30)
        rename(source, target)

    def notice_that_it_is_locked(handle: int, operation: int) -> None:
        try:
            flock(handle, operation)
        except BlockingIOError:
            looking.set()
            raise

    other = threading.Thread(target=second)

    def chmod(path: str, mode: int) -> None:
        other.start()
        assert looking.wait(30)

    monkeypatch.setattr(os, "rename", wait_and_rename)
    monkeypatch.setattr(os, "chmod", chmod)
    monkeypatch.setattr(fcntl, "flock", notice_that_it_is_locked)
    first = Listeners("", 0, path, 0o600)
    listening.set()
    other.join(30)
    with contextlib.closing(first), socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
    [error] = refused
    assert error.errno == errno.EADDRINUSE
    assert os.listdir(tmp_path) == []


def test_a_directory_that_another_program_has_locked_is_not_waited_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "LOCK_SECONDS", 0.02)
    handle = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        Listeners("", 0, tmp_path / "socket").close()
    finally:
        os.close(handle)


class TestTls:
    """TLS contexts."""

    @pytest.fixture
    def contexts(self) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        authority = trustme.CA()
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("localhost").configure_cert(server)
        client = ssl.create_default_context()
        authority.configure_trust(client)
        return server, client

    def connect(self, server: Any, context: ssl.SSLContext) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", server.port), 30)
        return context.wrap_socket(plain, server_hostname="localhost")

    def test_a_server_of_tls_serves(self, serving: Callable[..., Any], contexts: Any) -> None:
        with serving(ssl=contexts[0]) as server:
            for _ in range(2):
                assert ask(self.connect(server, contexts[1])).startswith(b"HTTP/1.1 200 OK\r\n")

    def test_a_stream_is_encrypted(self, serving: Callable[..., Any], contexts: Any) -> None:
        body = b'{"threadId":"t","runId":"r","messages":[],"tools":[],"context":[],"state":{}}'
        head = f"POST {BASE}/agent/default/run HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
        with serving(ssl=contexts[0]) as server, self.connect(server, contexts[1]) as client:
            client.sendall(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
            data = b""
            while piece := client.recv(65536):
                data += piece
            assert data.endswith(b"\r\n0\r\n\r\n")
            assert b"RUN_FINISHED" in data

    def begin_to_be_told(self, server: Any, context: ssl.SSLContext) -> ssl.SSLSocket:
        """A client with a small buffer, and the answer to it is of megabytes."""
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.settimeout(30)
        plain.connect(("127.0.0.1", server.port))
        client = context.wrap_socket(plain, server_hostname="localhost")
        body = b'{"threadId":"t","runId":"r","messages":[],"tools":[],"context":[],"state":{}}'
        head = f"POST {BASE}/agent/speaker/run HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
        client.sendall(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
        return client

    def test_a_client_that_takes_a_little_is_not_dropped(
        self, serving: Callable[..., Any], contexts: Any
    ) -> None:
        # A busy machine delays the client at times, so the client gets a longer time then.
        for patience in (0.5, 2.0, 8.0):
            with (
                serving(Limits(write_seconds=patience), ssl=contexts[0]) as server,
                self.begin_to_be_told(server, contexts[1]) as client,
            ):
                data, slowly, longest_pause = bytearray(), 0, 0.0
                begun = last = time.monotonic()
                with contextlib.suppress(OSError):
                    while piece := client.recv(16384):
                        data += piece
                        now = time.monotonic()
                        longest_pause, last = max(longest_pause, now - last), now
                        if now - begun < 3 * patience:
                            slowly = len(data)
                            time.sleep(patience / 5)
            if data.endswith(b"\r\n0\r\n\r\n") or longest_pause < patience / 2:
                break
        assert data.endswith(b"\r\n0\r\n\r\n")
        assert len(data) > SPOKEN
        assert slowly < SPOKEN / 4, "it was not slow"

    def test_a_client_that_takes_nothing_is_dropped(
        self, serving: Callable[..., Any], contexts: Any
    ) -> None:
        with (
            serving(Limits(write_seconds=0.2), ssl=contexts[0]) as server,
            self.begin_to_be_told(server, contexts[1]) as client,
        ):
            port = client.getsockname()[1]
            deadline = time.monotonic() + 30
            while is_open(server.port, port):
                assert time.monotonic() < deadline
                time.sleep(0.01)

    def test_a_client_that_does_not_answer_the_end_is_not_waited_for(
        self, serving: Callable[..., Any], contexts: Any
    ) -> None:
        limits = Limits(write_seconds=600, idle_seconds=0.1)
        with (
            serving(limits, ssl=contexts[0]) as server,
            self.connect(server, contexts[1]) as last,
            self.connect(server, contexts[1]) as idle,
        ):
            for client, more in (last, "connection: close\r\n"), (idle, ""):
                client.sendall(f"GET {BASE}/info HTTP/1.1\r\nhost: x\r\n{more}\r\n".encode())
            deadline = time.monotonic() + 60
            while server.connections:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            for client in last, idle:
                answer = b"".join(iter(functools.partial(client.recv, 65536), b""))
                assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
                assert answer.endswith(b"}")

    @pytest.mark.parametrize("garbage", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00"])
    def test_a_handshake_that_fails_harms_nobody(
        self,
        serving: Callable[..., Any],
        contexts: Any,
        garbage: bytes,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        with serving(Limits(header_seconds=0.2), ssl=contexts[0]) as server:
            with socket.create_connection(("127.0.0.1", server.port), 30) as client:
                client.sendall(garbage)
                with contextlib.suppress(ConnectionError):
                    while client.recv(1000):
                        pass
            # A handshake takes longer than that at times, on a busy machine.
            deadline, answer = time.monotonic() + 30, b""
            while not answer.startswith(b"HTTP/1.1 200 OK\r\n"):
                assert time.monotonic() < deadline
                with contextlib.suppress(OSError):
                    answer = ask(self.connect(server, contexts[1]))
        assert not [record for record in caplog.records if record.exc_info]
