"""The stores that the command is given, and that of the demo."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.command import APP, get, run, running

from copilot_bindings import cli
from copilot_bindings.cli import stores
from copilot_bindings.stores import SQLiteStore
from sansio_copilot import MemoryStore


def threads(url: str) -> list[str]:
    known = json.loads(get(f"{url}/api/copilotkit/threads"))["threads"]
    return [thread["id"] for thread in known]


def test_the_demo_keeps_its_conversations_over_a_restart(tmp_path: Path) -> None:
    with running("demo") as url:
        run(f"{url}/api/copilotkit", "echo")
    with running("demo") as url:
        assert threads(url) == ["t"]
    assert (tmp_path / "data/sansio-copilot/demo.db").exists()
    with running("demo", "--store", "memory") as url:
        assert threads(url) == []


def test_the_demo_says_where_it_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store, line = stores.demo_store()
    assert isinstance(store, SQLiteStore)
    store.close()
    assert line.startswith(f"conversations are kept in {tmp_path}/data/sansio-copilot/demo.db")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", "~")
    store, line = stores.demo_store()
    assert isinstance(store, SQLiteStore)
    store.close()
    assert f" {tmp_path}/.local/share/sansio-copilot/demo.db " in line
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    store, line = stores.demo_store()
    assert isinstance(store, MemoryStore)
    assert line.startswith("conversations are kept in memory, because ")


def test_a_runtime_of_the_users_own_keeps_them_where_the_command_says(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    for _ in range(2):
        with running("serve", "app", "--store", "sqlite:kept.db", cwd=tmp_path) as url:
            before = threads(url)
            run(f"{url}/api/copilotkit", "mine")
    assert before == ["t"]
    with running("serve", "app", cwd=tmp_path) as url:
        assert threads(url) == []


@pytest.mark.parametrize(
    ("store", "message"),
    [
        (
            "mysql://x",
            "--store is memory, sqlite:PATH, postgresql://... or redis://..., not",
        ),
        ("sqlite:", "--store is memory, sqlite:PATH"),
        ("memory:x", "--store is memory, sqlite:PATH"),
        ("redis://host:x/", "RedisStore needs the URL of a server"),
        ("redis://host/0?no_such=1", "RedisStore needs the URL of a server"),
        ("rediss://host/0?ssl_cert_reqs=x", "RedisStore needs the URL of a server"),
        ("postgresql://host/?no_such=1", "PostgresStore needs the URL of a database"),
        ("sqlite::memory:", "SQLiteStore needs the path of a file"),
        ("sqlite:///x.db", "a path behind sqlite:, as sqlite:threads.db"),
        ("sqlite:/no/such/directory/x.db", "there is no directory '/no/such/directory'"),
    ],
)
@pytest.mark.parametrize("binding", ["asyncio", "trio", "sockets"])
def test_a_store_that_is_none_is_told_in_a_line(
    store: str, message: str, binding: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["demo", "--binding", binding, "--store", store, "--port", "0"]
    assert cli.main(arguments) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.parametrize("command", ["copy-threads", "claim-threads"])
def test_a_store_that_is_no_database_is_told_in_a_line(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(b"no database " * 100)
    second = "memory" if command == "copy-threads" else "os:fspath"
    assert cli.main([command, f"sqlite:{path}", second]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "it is no SQLite database" in line
