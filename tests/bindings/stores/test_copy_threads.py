"""The command that copies threads: from a file to a server, with a line that says how far it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.redis_server import RedisServer

from copilot_bindings.cli import main
from copilot_bindings.stores import RedisStore, SQLiteStore
from sansio_copilot.stores.protocol import ThreadQuery
from sansio_copilot.testing.stores.driven import Driven


@pytest.fixture
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.close()


def test_threads_are_copied_once_and_stay_as_they_were(
    redis_server: RedisServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "threads.db"
    old = Driven(SQLiteStore(file), lambda awaitable: awaitable)
    event = '{"type":"RUN_STARTED","threadId":"t","runId":"r"}'
    for number in range(12):
        old.ended(f"t{number}", event, ended_at=float(number + 1), messages=b"[%d]" % number)
    old.update_thread("t3", {"name": "Named", "archived": True}, None)
    for owner in ("ann", "bob"):
        old.ended(f"{owner}'s", event, owner=owner, ended_at=30.0)
    owners = (None, "ann", "bob")
    before = [old.listed(ThreadQuery(owner)) for owner in owners]
    old.close()

    assert main(["copy-threads", f"sqlite:{file}", redis_server.url, "--owner", "bob"]) == 0
    assert "copied 1 threads; 0 were there already, 0 failed" in capsys.readouterr().out
    for copied in (13, 0):
        assert main(["copy-threads", f"sqlite:{file}", redis_server.url]) == 0
        said = capsys.readouterr()
        assert f"copied {copied} threads; {14 - copied} were there already, 0 failed" in said.out
        assert "14 of 14 threads" in said.err

    new = Driven(RedisStore(redis_server.url), lambda awaitable: awaitable)
    assert [new.listed(ThreadQuery(owner)) for owner in owners] == before
    assert new.history("t5", "messages") == b"[5]"
    new.close()


def test_a_store_that_is_away_or_none_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = f"sqlite:{tmp_path / 'threads.db'}"
    assert main(["copy-threads", file, "redis://:secret@127.0.0.1:1/0"]) == 1
    said = capsys.readouterr().err
    assert "RedisStore('127.0.0.1:1/0')" in said
    assert "secret" not in said
    assert main(["copy-threads", file, "mysql://root:secret@host/"]) == 1
    said = capsys.readouterr().err
    assert "--store is memory, sqlite:PATH" in said
    assert "secret" not in said
