"""The command that copies threads: from a file to a server, with a line that says how far it is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.redis_server import RedisServer

from copilot_bindings.cli import main
from copilot_bindings.stores import RedisStore, SQLiteStore
from sansio_copilot.stores.protocol import ThreadQuery
from sansio_copilot.testing.stores.driven import Driven


def test_threads_are_copied_once_and_stay_as_they_were(
    redis_server: RedisServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "threads.db"
    old = Driven(SQLiteStore(file), lambda awaitable: awaitable)
    event = '{"type":"RUN_STARTED","threadId":"t","runId":"r"}'
    for number in range(12):
        old.ended(f"t{number}", event, ended_at=float(number + 1), messages=b"[%d]" % number)
    old.update_thread("t3", {"name": "Named", "archived": True}, None)
    old.ended("t4", event, waits_for=b'{"toolCalls":[]}', ended_at=20.0)
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
        told = f"copied {copied} threads; {14 - copied} were there already, 0 failed\n"
        assert said.out == told, "the progress is on stderr"
        assert said.err.endswith("14 of 14 threads\n")

    new = Driven(RedisStore(redis_server.url), lambda awaitable: awaitable)
    assert [new.listed(ThreadQuery(owner)) for owner in owners] == before
    assert new.history("t5", "messages") == b"[5]"
    new.close()


def test_a_store_that_is_away_or_none_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Driven(SQLiteStore(tmp_path / "threads.db"), lambda awaitable: awaitable)
    store.ended("t", "1")
    store.close()
    file = f"sqlite:{tmp_path / 'threads.db'}"
    assert main(["copy-threads", file, "redis://:secret@127.0.0.1:1/0"]) == 1
    said = capsys.readouterr().err
    assert "RedisStore('127.0.0.1:1/0')" in said
    assert "secret" not in said
    assert main(["copy-threads", file, "mysql://root:secret@host/"]) == 1
    said = capsys.readouterr().err
    assert "--store is memory, sqlite:PATH" in said
    assert "secret" not in said


@pytest.mark.parametrize("command", ["copy-threads", "claim-threads"])
def test_a_file_of_threads_that_is_not_there_is_named_and_not_made(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = {"copy-threads": f"sqlite:{tmp_path / 'new.db'}", "claim-threads": "builtins:id"}
    assert main([command, f"sqlite:{tmp_path / 'mistyped.db'}", last[command]]) == 1
    assert "there is no file" in (said := capsys.readouterr().err)
    assert "mistyped.db" in said
    assert list(tmp_path.iterdir()) == []


def test_threads_of_before_there_were_users_are_claimed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "threads.db"
    store = Driven(SQLiteStore(file), lambda awaitable: awaitable)
    for thread_id in ("ann-1", "ann-2", "other"):
        store.ended(thread_id, "1")
    store.close()
    (tmp_path / "whose.py").write_text(
        "def owner_of(record):\n"
        "    name, dash, _ = record.thread_id.partition('-')\n"
        "    return name if dash else None\n"
        "nothing = 5\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    assert main(["claim-threads", f"sqlite:{file}", "whose"]) == 0
    assert "claimed 2 threads; 1 are still nobody's" in capsys.readouterr().out
    assert main(["claim-threads", f"sqlite:{file}", "whose:nothing"]) == 1
    assert "'whose:nothing' is a int, expected a function" in capsys.readouterr().err
    store = Driven(SQLiteStore(file), lambda awaitable: awaitable)
    assert {one.thread_id for one in store.listed(ThreadQuery("ann"))} == {"ann-1", "ann-2"}
    assert [one.thread_id for one in store.listed(ThreadQuery())] == ["other"]
    store.close()


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("raise ValueError('not\\nthis one')", "ValueError: not this one ("),
        ("raise SystemExit(3)", "SystemExit: 3 ("),
        ("return 7", "TypeError: the id of a user is a str, not int ("),
        ("return ''", "ValueError: the id of a user has 1 to 1000 characters, not 0 ("),
    ],
)
def test_a_function_that_names_no_user_is_told_in_a_line(
    body: str,
    told: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "threads.db"
    store = Driven(SQLiteStore(file), lambda awaitable: awaitable)
    store.ended("thread-1", "1")
    store.close()
    (tmp_path / "wrong_owners.py").write_text(f"def owner_of(record):\n    {body}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "wrong_owners", raising=False)
    assert main(["claim-threads", f"sqlite:{file}", "wrong_owners"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"sansio-copilot: 'wrong_owners' fails for thread thread-1: {told}")
