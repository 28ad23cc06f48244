"""Listening sockets, for the bindings that own their sockets."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import sys
import time
from collections.abc import Iterator
from typing import Any, TypeAlias

if sys.platform != "win32":
    import fcntl

BACKLOG = 1024
"""The number of connections that may wait to be accepted by a listening socket."""
# The probe of an existing Unix socket has a time limit of this many seconds, because a busy server
# may listen for a while without accepting.
_PROBE_SECONDS = 1.0
LOCK_SECONDS = 5.0
"""The seconds for which servers that begin at the same moment wait for each other. Then they go on,
because some other program may hold the lock."""
_LOCK_STEP_SECONDS = 0.01

UnixPath: TypeAlias = str | os.PathLike[str] | None


def url_of(host: str, port: int, *, tls: bool = False) -> str:
    """The URL of a server's root, without the slash at its end.

    :param tls: whether the server speaks TLS.
    """
    # An IPv6 address stands in brackets, because it has colons (RFC 3986 section 3.2.2).
    name = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{name}:{port}"


class Listeners:
    """Sockets that listen: on every address of a host, or at the path of a Unix socket.

    :param host: a name or an IP address; "" listens on all addresses of the machine.
    :param port: a number from 0 to 65535; 0 takes a free port, the same for each address.
    :param unix: the path of a Unix socket to listen at instead of host and port. A leading NUL
        makes it an abstract name, which only Linux has. The socket of a dead server is replaced.
    :param unix_mode: the permissions of the Unix socket (for example ``0o660``); None leaves them
        to the process's umask. A process that may not write to the socket cannot connect.
    :param sock: a bound stream socket to use instead of all of these, as a supervisor hands it to a
        service (for example systemd's socket activation). :meth:`close` closes it too.
    :raises OSError: if an address cannot be bound, or another server listens there.
    :raises ValueError: if the port, the path, the mode or the socket is not valid.
    """

    def __init__(
        self,
        host: str,
        port: int,
        unix: UnixPath = None,
        unix_mode: int | None = None,
        sock: socket.socket | None = None,
    ) -> None:
        _check(port, unix, unix_mode)
        self.sockets: list[socket.socket] = []
        self._path: str | None = None
        """The path of the Unix socket that this object has made; None if there is no such file."""
        self._inode: tuple[int, int] | None = None
        if sock is not None:
            _check_socket(sock, unix)
            sock.listen(BACKLOG)
            self.sockets.append(sock)
            return
        try:
            if unix is None:
                self._listen_to_host(host, port)
            else:
                self._listen_at_path(os.fspath(unix), unix_mode)
        except BaseException:
            self.close()
            raise

    @property
    def port(self) -> int:
        """The port that the sockets listen on; 0 for a Unix socket."""
        listener = self.sockets[0]
        return 0 if listener.family == socket.AF_UNIX else int(listener.getsockname()[1])

    @property
    def addresses(self) -> list[object]:
        """The addresses that the sockets are bound to."""
        return [listener.getsockname() for listener in self.sockets]

    def describe(self, *, tls: bool) -> str:
        """The addresses as people write them: ``http://127.0.0.1:4000``, or ``unix:`` and a path.

        :param tls: whether the server speaks TLS.
        """
        return ", ".join(_described(listener.getsockname(), tls) for listener in self.sockets)

    def remove(self) -> None:
        """Remove the file of the Unix socket, unless another server has put its own there.

        To be called before the socket is closed, because until then no other file can have the same
        inode, by which the file is recognised.
        """
        if self._path is not None and self._inode == _inode_of(self._path):
            with contextlib.suppress(OSError):
                os.unlink(self._path)
        self._path = None

    def close(self) -> None:
        """Close the sockets, and remove the file of a Unix socket."""
        self.remove()
        for listener in self.sockets:
            listener.close()

    # Addresses

    def _listen_to_host(self, host: str, port: int) -> None:
        unavailable: OSError | None = None
        for family, address in addresses_of(host, port):
            if self.sockets and port == 0:
                address = (address[0], self.port, *address[2:])
            try:
                self.sockets.append(_listening(family, address))
            except OSError as error:
                # These two errors are passed over if another address can be bound, because a name
                # may have an address of a family that this machine does not have.
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                unavailable = error
        if unavailable is not None and not self.sockets:
            raise unavailable

    # Unix sockets

    def _listen_at_path(self, path: str, mode: int | None) -> None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sockets.append(listener)
        if path.startswith("\0"):
            _bind(listener, path)
            listener.listen(BACKLOG)
            return
        with _alone_in(os.path.dirname(path) or os.curdir):
            _make_way(path)
            self._listen_at_free_path(listener, path, mode)

    def _listen_at_free_path(self, listener: socket.socket, path: str, mode: int | None) -> None:
        _bind(listener, path)
        self._path, self._inode = path, _inode_of(path)
        if mode is not None:
            # The mode is set before the socket listens, so that no client connects in between.
            os.chmod(path, mode)
        listener.listen(BACKLOG)
        if self._inode != _inode_of(path):
            # Another program, which began at the same moment, has replaced the file, because this
            # one was not listening on it yet.
            raise _in_use(path)


def _check(port: int, unix: UnixPath, unix_mode: int | None) -> None:
    # Types are checked too, because a caller without annotations may pass a wrong one.
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
        raise ValueError(f"port must be a whole number from 0 to 65535, got {port!r}")
    if unix_mode is not None and (
        isinstance(unix_mode, bool) or not isinstance(unix_mode, int) or not 0 <= unix_mode <= 0o777
    ):
        raise ValueError(f"unix_mode must be a number from 0 to 0o777, got {unix_mode!r}")
    if unix is None:
        if unix_mode is not None:
            raise ValueError("unix_mode is for a Unix socket, and there is no path")
        return
    if not isinstance(unix, (str, os.PathLike)) or not isinstance(path := os.fspath(unix), str):
        raise ValueError(f"unix must be a path, got {unix!r}")
    if not path.strip("\0"):
        raise ValueError("unix must be a path, and is empty")
    if "\0" in path[1:]:
        raise ValueError(f"unix must be a path without NUL, or an abstract name, got {path!r}")
    if unix_mode is not None and path.startswith("\0"):
        raise ValueError("unix_mode is for a path, and an abstract name has no permissions")


def _check_socket(sock: object, unix: UnixPath) -> None:
    if not isinstance(sock, socket.socket):
        raise ValueError(f"sock must be a socket, got {type(sock).__name__}")
    if unix is not None:
        raise ValueError("sock is a socket that is bound already, and unix a path to bind one to")
    if sock.type != socket.SOCK_STREAM:
        raise ValueError(f"sock must be a stream socket, got {sock.type!r}")


def _described(address: Any, tls: bool) -> str:
    if not isinstance(address, tuple):
        path = os.fsdecode(address)
        return f"unix:@{path[1:]}" if path.startswith("\0") else f"unix:{path}"
    return url_of(*address[:2], tls=tls)


def addresses_of(host: str, port: int) -> list[tuple[int, Any]]:
    """Look up the addresses of a host to listen on, each with its family.

    :raises OSError: if the host has none.
    """
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as error:
        raise socket.gaierror(
            error.errno, f"cannot listen on {host!r}: {str(error.strerror).lower()}"
        ) from None
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _listening(family: int, address: Any) -> socket.socket:
    # The protocol is named, because asyncio turns Nagle's algorithm off only for sockets whose
    # protocol is TCP.
    try:
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise _cannot_listen(address, error) from None
    try:
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _cannot_listen(address, error) from None
    return listener


def _cannot_listen(address: Any, error: OSError) -> OSError:
    if error.errno is None:
        # An error without a number is Python's own, for a path that is too long. It does not say
        # how long a path may be, so this message does.
        size = len(os.fsencode(address))
        return OSError(
            errno.ENAMETOOLONG,
            f"cannot listen at {address!r}: a Unix socket's path has about 100 bytes at most, "
            f"and this one {size}; take a shorter one, or a relative one",
        )
    return OSError(error.errno, f"cannot listen on {address}: {os.strerror(error.errno).lower()}")


def _bind(listener: socket.socket, path: str) -> None:
    try:
        listener.bind(path)
    except OSError as error:
        raise _cannot_listen(path, error) from None


@contextlib.contextmanager
def _alone_in(directory: str) -> Iterator[None]:
    """Keep other servers from making a socket in ``directory`` within the context.

    A socket that is bound and does not listen yet looks like that of a dead server. The lock is on
    the directory itself, so that no file is left behind.
    """
    with contextlib.ExitStack() as stack:
        if sys.platform != "win32":
            # The error is suppressed, because the lock needs a directory that may be read.
            with contextlib.suppress(OSError):
                handle = os.open(directory, os.O_RDONLY)
                stack.callback(os.close, handle)
                _lock(handle)
        yield


def _lock(handle: int) -> None:
    until = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return
            time.sleep(_LOCK_STEP_SECONDS)
        else:
            return


def _in_use(path: str) -> OSError:
    return OSError(
        errno.EADDRINUSE,
        f"cannot listen at {path!r}: another server listens there; end it first, or listen at "
        "another path and rename that over this one",
    )


def _make_way(path: str) -> None:
    """Remove the socket at ``path`` if the server that made it is dead.

    :raises OSError: if a server listens on it.
    """
    inode = _inode_of(path)
    if inode is None:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            pass
        except FileNotFoundError:
            return
        except OSError:
            # Any other error means a server: its backlog is full, or it gives no permission.
            raise _in_use(path) from None
        else:
            raise _in_use(path)
    # The file is renamed before it is removed, so that its inode can be compared once more: another
    # server may have put a live socket in its place meanwhile.
    aside = f"{path}.{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        os.rename(path, aside)
        if _inode_of(aside) != inode:
            os.rename(aside, path)
            raise _in_use(path)
        os.unlink(aside)


def _inode_of(path: str) -> tuple[int, int] | None:
    """The device and inode number of the socket at ``path``; None if there is no socket."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISSOCK(found.st_mode) else None
