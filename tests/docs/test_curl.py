"""The commands by which the README talks to the demo without a page."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from urllib.parse import urlsplit

from copilot_bindings.demo import build_runtime
from sansio_copilot.testing import Client

README = Path(__file__).parents[2] / "README.md"


async def at_once(seconds: float) -> None:
    """The demo's agent waits for nobody."""


def commands() -> list[list[str]]:
    (block,) = re.findall(r"^```sh\n(curl .*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    words = shlex.split(block.replace("\ncurl", " ; curl"), comments=False)
    return [shlex.split(each) for each in shlex.join(words).split(" ';' ")]


def test_the_demo_answers_what_the_readme_sends() -> None:
    run, messages, info = commands()
    client = Client(build_runtime(at_once))
    _, _, url, _, header, _, data = run
    name, _, value = header.partition(": ")
    path = urlsplit(url).path
    assert url == f"http://127.0.0.1:4000{path}"
    answer = client.request("POST", path, headers={name: value}, body=data)
    types = [event["type"] for event in answer.events()]
    assert (types[0], types[-1]) == ("RUN_STARTED", "RUN_FINISHED")
    first, *others = client.get(urlsplit(messages[1]).path).json()["messages"]
    assert first["content"] == "Hello"
    assert others
    assert client.get(urlsplit(info[1]).path).json()["agents"].keys() == {"default", "echo"}
