"""Functions of an application are called before its runtime is served, and after that."""

from __future__ import annotations

import contextlib
import json
import signal
import socket

import pytest
from conformance.contract import ServerFile
from conformance.process import Server, wait_until

STARTS, CLOSES = "the runtime starts", "the runtime closes"


@pytest.mark.needs("graceful-shutdown")
def test_an_application_is_called_once_before_the_first_answer_and_once_at_the_end(
    own_server: Server,
) -> None:
    assert own_server.request("GET", "/info").status == 200
    assert own_server.log().count(STARTS) == 1
    own_server.run("run", "t", agent="text")
    assert CLOSES not in own_server.log()
    own_server.process.send_signal(signal.SIGTERM)
    own_server.process.wait(60)
    log = own_server.log()
    assert (log.count(STARTS), log.count(CLOSES)) == (1, 1)


def test_an_application_whose_start_fails_is_not_served_and_is_closed(
    server_file: ServerFile,
) -> None:
    server = Server(server_file, "cannot-start")
    answered: list[int] = []

    def is_known() -> bool:
        if server.process.poll() is not None:
            return True
        with contextlib.suppress(ConnectionError):
            socket.create_connection(("127.0.0.1", server.port), 60).close()
            answer = server.request("GET", "/info")
            assert json.loads(answer.body)["message"] == "The server has not started"
            answered.append(answer.status)
        return bool(answered)

    try:
        wait_until(is_known, "it has ended, or answers", 60)
        assert answered or server.process.returncode != 0
        assert set(answered) <= {503}
        log = server.log()
        assert "on_start has failed: OSError: no such queue" in log or not answered
        assert log.count(STARTS) == log.count(CLOSES) >= 1
    finally:
        server.kill()
        server.close_log()
