"""The options of the command, and the environment variables that stand for them."""

from __future__ import annotations

from typing import Any

import pytest

from copilot_bindings import cli
from copilot_bindings.cli import options
from sansio_copilot import __version__


def test_the_command_tells_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out.strip() == __version__


def test_a_number_too_large_for_a_port_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["demo", "--port", "99999"])
    assert "99999 is not a port" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["abc", "-1", "1.5", "1_0", "65536", "9" * 5000])
def test_a_port_that_is_no_whole_number_in_its_range_is_refused_in_a_short_line(
    port: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["demo", f"--port={port}"])
    assert ended.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "--port: a whole number from 0 to 65535" in line
    assert len(line) < 300


def parsed(*arguments: str, **environ: str) -> Any:
    return options.parser(["asyncio", "trio"], environ).parse_args(arguments)


def test_environment_variables_stand_for_arguments() -> None:
    found = parsed(
        "serve",
        "app:runtime",
        SANSIO_COPILOT_PORT="5000",
        SANSIO_COPILOT_LOG_LEVEL="debug",
        SANSIO_COPILOT_JSON_LOGS="1",
        SANSIO_COPILOT_ACCESS_LOG="0",
        SANSIO_COPILOT_STORE="memory",
        SANSIO_COPILOT_UNIX_MODE="660",
    )
    assert (found.port, found.log_level, found.json_logs) == (5000, "debug", True)
    assert (found.access_log, found.store, found.unix_mode) == (False, "memory", 0o660)


def test_a_variable_is_looked_at_by_the_command_that_it_is_for() -> None:
    wrong = {"SANSIO_COPILOT_PORT": "x"}
    assert parsed("copy-threads", "memory", "memory", **wrong).source == "memory"
    assert parsed("demo", SANSIO_COPILOT_LOG_LEVEL="INFO").log_level == "info"


def test_an_argument_counts_more_than_its_variable() -> None:
    assert parsed("demo", "--port", "1", SANSIO_COPILOT_PORT="2").port == 1


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"SANSIO_COPILOT_PORT": "x"}, "x is not a port"),
        ({"SANSIO_COPILOT_RELOAD": "maybe"}, "SANSIO_COPILOT_RELOAD is 1 or 0, not maybe"),
        ({"SANSIO_COPILOT_BINDING": "x"}, "SANSIO_COPILOT_BINDING is one of asyncio, trio, not x"),
        ({"SANSIO_COPILOT_UNIX_MODE": "rw"}, "rw is none"),
        ({"SANSIO_COPILOT_UNIX_MODE": "7777"}, "7777 is none"),
        ({"SANSIO_COPILOT_WORKERS": "0"}, "0 is no number of processes"),
        ({"SANSIO_COPILOT_FD": "-1"}, "-1 is no descriptor"),
        ({"SANSIO_COPILOT_HOST": ""}, "SANSIO_COPILOT_HOST is empty, expected a value"),
        ({"SANSIO_COPILOT_LOG_LEVEL": ""}, "SANSIO_COPILOT_LOG_LEVEL is empty, expected a value"),
        ({"SANSIO_COPILOT_FD": "9" * 20}, "is no descriptor"),
    ],
)
def test_a_variable_that_makes_no_sense_is_refused(
    environ: dict[str, str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parsed("demo", **environ)
    assert told in capsys.readouterr().err


def test_an_empty_host_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed("demo", "--host", "")
    assert "argument --host: it is empty" in capsys.readouterr().err
