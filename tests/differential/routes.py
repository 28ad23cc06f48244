"""Requests that are about the way to an endpoint: paths, methods, origins, envelopes, stops."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any

from differential.inputs import OPERATIONS, run_input  # type: ignore[attr-defined]
from differential.scripts import simple_script
from differential.steps import BASE, CONTENT_TYPES, JSON_TYPE, ORIGINS, Step, encode, origin

# --- Where a request goes ------------------------------------------------------------------------

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "PROPFIND")

PATHS = (
    "",
    "/",
    "//",
    "/info",
    "/info/",
    "//info",
    "/info//",
    "/info?x=1&y",
    "/info?",
    "/Info",
    "/inf%6F",
    "/%69nfo",
    "/x/info",
    "/x/y/z/info",
    "/info/x",
    "/./info",
    "/x/../info",
    "/x/%2e%2e/info",
    "/x/.%2E/info",
    "/../info",
    "/../../../info",
    "/..%2finfo",
    "/x\\info",
    "/x\\..\\info",
    "/agent",
    "/agent/",
    "/agent/default",
    "/agent/default/run",
    "/agent/default/run/",
    "/agent//default//run",
    "/agent/default/run/x",
    "/agent/run",
    "/agent/%/run",
    "/agent/%E0%A4%A/run",
    "/agent/%FF/run",
    "/agent/%20/run",
    "/agent/%64efault/connect",
    "/agent/%00/connect",
    "/agent/default%2Frun/connect",
    "/agent/nope/run",
    "/agent/n%C3%A4mlich%20nicht/connect",
    "/agent/__proto__/connect",
    "/agent/default/suggest",
    "/agent/default/connect",
    "/agent/default/stop",
    "/agent/default/stop/t",
    "/agent/nope/stop/t",
    "/agent/default/stop/%F0%9F%9A%80",
    "/agent/default/stop/t%2Fu",
    "/agent/default/stop/%",
    "/agent/default/stop/%22quoted%22",
    "/agent/default/stop/threads",
    "/agent/default/abort",
    "/transcribe",
    "/x/transcribe",
    "/threads",
    "/threads/",
    "/threads?agentId=default",
    "/threads?agentId=",
    "/threads?agentId=nope&agentId=default",
    "/threads?agentId=research%2Dagent",
    "/threads?agentId=%ZZ",
    "/threads/none",
    "/threads/none/",
    "/threads/none/messages",
    "/threads/none/events",
    "/threads/none/state",
    "/threads/none/archive",
    "/threads/none/nothing",
    "/threads/%/messages",
    "/threads/%C3%BC/messages",
    "/threads/a%2Fb/state",
    "/threads/subscribe",
    "/threads/clear/messages",
    "/threads/threads",
    "/memories",
    "/memories/m",
    "/memories/recall",
    "/memories/subscribe",
    "/annotate",
    "/threads/annotate",
    "/inspector-metadata",
    "/inspector-learning",
    "/inspector-learning?agentId=default&skillsPage=2",
    "/cpk-debug-events",
    "/favicon.ico",
    "/info;v=1",
    "/info%3Fx",
    "/%2Finfo",
    '/"info"',
    "/{info}",
    "/info|x",
)

# The paths are not below the base path, as strings or as paths.
ELSEWHERE = (
    "/",
    "/info",
    "/api",
    "/api/copilotkitchen/info",
    "/API/copilotkit/info",
    "/api//copilotkit/info",
    "/api/./copilotkit/info",
    "/api/%63opilotkit/info",
    "/api/copilotkit/../copilotkit/info",
    "/x/api/copilotkit/info",
)

EVERYWHERE = ("plain", "cors", "credentials", "anywhere", "root", "single")


def routing(random: Random) -> Iterator[Step]:
    for path in PATHS:
        # GET and POST are always tried, because one of them leads somewhere, and another method now
        # and then.
        for method in sorted({"GET", "POST", random.choice(METHODS)}):
            yield _routed(random, random.choice(EVERYWHERE), method, BASE + path)
    for path in ELSEWHERE:
        for configuration in ("plain", "anywhere", "root", "single"):
            yield _routed(random, configuration, random.choice(("GET", "POST")), path)
    unregistered = encode(run_input("t", "r"))
    for agent_id in ("constructor", "toString"):
        target = f"{BASE}/agent/{agent_id}/connect"
        yield Step("routing", "plain", "POST", target, (JSON_TYPE,), unregistered)
    for method in METHODS:
        for configuration in EVERYWHERE:
            yield _routed(random, configuration, method, f"{BASE}/info")
            yield _routed(random, configuration, method, f"{BASE}/threads/none")


def _routed(random: Random, configuration: str, method: str, target: str) -> Step:
    body, headers = None, origin(random)
    if method in ("POST", "PUT", "PATCH"):
        body = random.choice((None, b"", b"{}", b"[]", b"{", b"null", b'{"method":"info"}'))
        if body is not None:
            headers += (("content-type", random.choice(CONTENT_TYPES)),)
    return Step("routing", configuration, method, target, headers, body)


# --- Who asks ----


def cross_origin(random: Random) -> Iterator[Step]:
    for configuration in (*EVERYWHERE, "single-credentials"):
        for page in (*ORIGINS, None):
            headers = () if page is None else (("origin", page),)
            target = BASE + random.choice(("/info", "/nope", "/threads", "/agent/nope/run", ""))
            preflight = (*headers, ("access-control-request-method", random.choice(METHODS)))
            if random.random() < 0.5:
                preflight += (("access-control-request-headers", "content-type, x-tenant"),)
            yield Step("preflight", configuration, "OPTIONS", target, preflight)
            yield Step("cross-origin", configuration, "GET", target, headers)
            info = encode({"method": "info"})
            yield Step("cross-origin", configuration, "POST", target, (*headers, JSON_TYPE), info)


# --- Stops ---------------------------------------------------------------------------------------

STOP_BODIES: tuple[bytes | None, ...] = (
    None,
    b"",
    b"  \n",
    b"{}",
    b'{"runId":"r"}',
    b'{"runId":"r\xc3\xbcn"}',
    b'{"runId":""}',
    b'{"runId":"  "}',
    b'{"runId":"\\u00a0\\ufeff"}',
    b'{"runId":null}',
    b'{"runId":5}',
    b'{"runId":["r"]}',
    b'{"runId":"r","x":1}',
    b'{"x":1}',
    b'{"":1}',
    b"[]",
    b'["runId"]',
    b"null",
    b"true",
    b"5",
    b'"r"',
    b"{",
    b"nope",
    b'{"runId":"a","runId":"b"}',
)


def stops(random: Random) -> Iterator[Step]:
    for body in STOP_BODIES:
        agent_id = random.choice(("default", "default", "default", "nope"))
        target = f"{BASE}/agent/{agent_id}/stop/nobody"
        headers = () if body is None else (("content-type", random.choice(CONTENT_TYPES)),)
        yield Step("stop", "plain", "POST", target, headers, body)
    params = {"agentId": "default", "threadId": "nobody"}
    as_text = ("", "{}", '{"runId":"r"}', "x")
    scopes: tuple[Any, ...] = ({}, {"runId": "r"}, {"runId": 1}, [], None, 5, *as_text)
    for value in scopes:
        envelope = {"method": "agent/stop", "params": params, "body": value}
        yield Step("stop", "single", "POST", BASE, (JSON_TYPE,), encode(envelope))


# --- Envelopes -----------------------------------------------------------------------------------

RESOURCES: tuple[tuple[Any, Any], ...] = (
    ("/threads", "GET"),
    ("/threads", "get"),
    ("/threads", "POST"),
    ("/threads", "HEAD"),
    ("/threads", "OPTIONS"),
    ("/threads?agentId=default", "GET"),
    ("/threads?agentId=n%C3%B6", "GET"),
    ("/threads#fragment", "GET"),
    ("/threads/", "GET"),
    ("/x/threads", "GET"),
    ("/threads/none/messages", "GET"),
    ("/threads/none/state", "GET"),
    ("/threads/n\u00f6 n/events", "GET"),
    ("/threads/%/events", "GET"),
    ("/threads/none", "PATCH"),
    ("/threads/none", "DELETE"),
    ("/threads/none", "GET"),
    ("/threads/none/archive", "POST"),
    ("/threads/subscribe", "POST"),
    ("/threads/../info", "GET"),
    ("/../threads", "GET"),
    ("/%2e%2e/threads", "GET"),
    ("/./threads", "GET"),
    ("/threads\\none\\state", "GET"),
    ("  /threads", "GET"),
    ("/threads  ", "GET"),
    ("/thr\neads", "GET"),
    ("threads", "GET"),
    ("", "GET"),
    ("https://evil.example/threads", "GET"),
    ("/https://evil.example/threads", "GET"),
    ("/info", "GET"),
    ("/transcribe", "POST"),
    ("/agent/default/run", "POST"),
    ("/cpk-debug-events", "GET"),
    ("/inspector-metadata", "GET"),
    ("/memories", "GET"),
    ("/memories/m", "DELETE"),
    ("/annotate", "POST"),
    ("/nope", "GET"),
    ("/threads", ""),
    ("/threads", 5),
    ("/threads", None),
    (5, "GET"),
    (None, "GET"),
)


def envelopes(random: Random) -> Iterator[Step]:
    for path, method in RESOURCES:
        params = {"path": path, "httpMethod": method}
        yield _enveloped(random, {"method": "resource/request", "params": params})
        if method in ("PATCH", "POST", "DELETE"):
            envelope = {"method": "resource/request", "params": params, "body": {"name": "x"}}
            yield _enveloped(random, envelope)
    body = run_input("envelope", "r", forwardedProps={"script": simple_script("envelope", "r")})
    agent = {"agentId": "default"}
    bad_params: tuple[Any, ...] = (
        *({"agentId": value} for value in ("nope", "", " ", 5, ["default"])),
        *({}, None, [], "default", 5),
    )
    text = json.dumps(body)
    values: tuple[Any, ...] = (None, "", "x", 5, True, [], {}, body, text, f" {text} ")
    for operation in OPERATIONS:
        method = f"agent/{operation}"
        for params in bad_params:
            yield _enveloped(random, {"method": method, "params": params, "body": body})
        for value in values:
            yield _enveloped(random, {"method": method, "params": agent, "body": value})
        yield _enveloped(random, {"method": method, "params": agent})
        yield _enveloped(random, {"method": method})
    for method in ("info", "inspector/metadata", "inspector/learning", "transcribe", "agent/stop"):
        yield _enveloped(random, {"method": method})
        yield _enveloped(random, {"method": method, "params": {"x": 1}, "body": {}})
    learning = {"agentId": "default", "skillsPage": 2}
    yield _enveloped(random, {"method": "inspector/learning", "params": learning})
    for method in (
        None,
        "",
        0,
        False,
        5,
        True,
        "nope",
        "INFO",
        "info ",
        "threads/list",
        "toString",
    ):
        yield _enveloped(random, {"method": method})
    no_texts: tuple[Any, ...] = ([], {}, ["info"])
    for no_text in no_texts:
        about = "an envelope's method that is no text"
        yield Step(about, "single", "POST", BASE, (JSON_TYPE,), encode({"method": no_text}))
    for raw in (b"", b"{", b"[]", b"5", b'"info"', b"true", b"{}", b'{"Method":"info"}'):
        for content_type in CONTENT_TYPES[:4]:
            headers = (*origin(random), ("content-type", content_type))
            yield Step("envelope", "single", "POST", BASE, headers, raw)
    yield Step("envelope of null", "single", "POST", BASE, (JSON_TYPE,), b"null")
    yield Step("envelope", "single", "POST", BASE, (), b'{"method":"info"}')


def _enveloped(random: Random, envelope: Any, about: str = "envelope") -> Step:
    # Most envelopes go to a runtime in single-route mode, because the other mode only has to say
    # what is wrong.
    configuration = random.choice(("single", "single", "single", "single-credentials", "plain"))
    target = random.choice((BASE, BASE, f"{BASE}/", f"{BASE}/x"))
    if '"path"' in json.dumps(envelope) and target.endswith("x"):
        target = BASE
    headers = (*origin(random), ("content-type", random.choice(CONTENT_TYPES[:2])))
    return Step(about, configuration, "POST", target, headers, encode(envelope))
