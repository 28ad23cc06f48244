"""The endpoints beside runs: threads, transcription, the debug feed."""

from __future__ import annotations

import json

import pytest
from conformance.process import Server

pytestmark = pytest.mark.of_the_binding

TRANSCRIBED = {"text": "76800 bytes of audio/webm", "size": 76800, "type": "audio/webm"}
JSON = {"content-type": "application/json"}


def test_threads_are_listed_read_renamed_archived_and_deleted(server: Server, thread: str) -> None:
    user = {"id": "u", "role": "user", "content": "Größe?"}
    server.run("run", thread, agent="mirror", messages=[user])
    server.run("run", thread, agent="text", run_id="run-2", messages=[user])
    path = f"/threads/{thread}"
    messages = server.request("GET", f"{path}/messages").json()["messages"]
    assert [message["content"] for message in messages] == ["Größe?", "Hello from Python"]
    events = server.request("GET", f"{path}/events").json()["events"]
    assert events == server.run("connect", thread).events()
    assert server.request("GET", f"{path}/state").json()["state"]["agentId"] == "mirror"
    page = server.request("GET", f"{path}/messages?limit=1").json()
    assert (len(page["messages"]), page["nextCursor"]) == (1, "1")

    changes = json.dumps({"name": "Über uns"}).encode()
    assert server.request("PATCH", path, changes, JSON).json()["name"] == "Über uns"
    listed = server.request("GET", "/threads?agentId=text").json()["threads"]
    assert "Über uns" in [known["name"] for known in listed if known["id"] == thread]
    assert server.request("POST", f"{path}/archive").json()["archived"] is True
    listed = server.request("GET", "/threads").json()["threads"]
    assert thread not in [known["id"] for known in listed]
    assert server.request("DELETE", path).json()["deleted"] is True
    assert server.request("DELETE", path).status == 404
    assert server.run("connect", thread).events() == []


def test_a_recording_is_transcribed(server: Server) -> None:
    recording = bytes(range(256)) * 300
    form = (
        b'--limit\r\ncontent-disposition: form-data; name="audio"; filename="note.webm"\r\n'
        b"content-type: audio/webm\r\n\r\n" + recording + b"\r\n--limit--\r\n"
    )
    headers = {"content-type": "multipart/form-data; boundary=limit"}
    answer = server.request("POST", "/transcribe", form, headers)
    assert (answer.status, answer.json()) == (200, TRANSCRIBED)


def test_the_debug_feed_shows_runs_as_they_happen(server: Server, thread: str) -> None:
    with server.client() as feed:
        feed.send("GET", "/cpk-debug-events")
        feed.receive_until(b": connected\n\n")
        server.run("run", thread, agent="text")
        shown = feed.receive_until(b'"type":"RUN_FINISHED"')
        assert thread.encode() in shown
        feed.cut()
