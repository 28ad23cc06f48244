"""Each recipe for an application's own login is started as it is, and asked by two users.

Whatever says who they are, each has threads of their own, and nobody else gets in.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import importlib.util
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest
from conformance.process import free_port
from cryptography.hazmat.primitives.asymmetric import rsa
from docs.test_examples import connect
from support.scripts import start_program

from sansio_copilot.testing import run_input

RECIPES = Path(__file__).parents[2] / "docs" / "examples" / "login"
BASE = "/api/copilotkit"
Fields = dict[str, str]


class Site:
    """A recipe that is being served."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: Fields | None = None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.headers, response.read()

    def form(self, path: str, headers: Fields | None = None, **fields: str) -> Fields:
        """Send a form; returns the cookies that come back, as a header to be sent."""
        kind = {"content-type": "application/x-www-form-urlencoded", **(headers or {})}
        status, answered, _ = self.ask("POST", path, urlencode(fields).encode(), kind)
        assert status == 200, status
        return cookies_in(answered)

    def run(self, thread: str, headers: Fields) -> tuple[int, bytes]:
        body = json.dumps(run_input(thread)).encode()
        kind = {"content-type": "application/json", **headers}
        status, _, said = self.ask("POST", f"{BASE}/agent/default/run", body, kind)
        return status, said

    def messages(self, thread: str, headers: Fields) -> list[dict[str, Any]]:
        status, _, body = self.ask("GET", f"{BASE}/threads/{thread}/messages", headers=headers)
        assert status == 200, body
        found: list[dict[str, Any]] = json.loads(body)["messages"]
        return found


def cookies_in(headers: http.client.HTTPMessage) -> Fields:
    pairs = [value.partition(";")[0] for value in headers.get_all("set-cookie", [])]
    return {"cookie": "; ".join(pairs)}


@contextlib.contextmanager
def served(recipe: str, folder: Path, *command: str, **environment: str) -> Iterator[Site]:
    """Serve a recipe, and end it; nothing of it may have failed."""
    port = free_port()
    text = (RECIPES / f"{recipe}.py").read_text("utf-8").replace("4000", str(port))
    (folder / f"{recipe}.py").write_text(text, "utf-8")
    arguments = [part.format(port=port) for part in command] or [f"{recipe}.py"]
    with (folder / "log").open("w+b") as log:
        process = start_program(arguments, log, cwd=folder, environ=environment)
        try:
            connect(port, process).close()
            yield Site(port)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            finally:
                process.kill()
                process.wait()
        log.seek(0)
        written = log.read().decode()
    assert "Traceback" not in written, written


def uvicorn(recipe: str) -> list[str]:
    return ["-m", "uvicorn", f"{recipe}:app", "--port", "{port}"]


def two_users(site: Site, ann: Fields, bob: Fields, name: str = "ann") -> None:
    """Ann has a thread, and Bob has not; nobody is asked in without a login."""
    status, said = site.run("t", ann)
    assert status == 200
    assert f"Hello {name}".encode() in said
    assert len(site.messages("t", ann)) == 1
    assert site.messages("t", bob) == []
    assert site.run("t", bob)[0] == 404
    assert site.ask("GET", f"{BASE}/info")[0] == 401


def test_every_recipe_is_tested() -> None:
    source = Path(__file__).read_text("utf-8")
    recipes = [recipe.stem for recipe in RECIPES.glob("*.py")]
    assert recipes
    assert [recipe for recipe in recipes if f'"{recipe}"' not in source] == []


def test_a_dependency_of_fastapi_identifies_the_user(tmp_path: Path) -> None:
    name = "fastapi_dependency"
    ann, bob = ({"authorization": f"Bearer token-of-{user}"} for user in ("ann", "bob"))
    with served(name, tmp_path, *uvicorn(name)) as site:
        two_users(site, ann, bob)
        assert site.ask("GET", "/me", headers=ann)[2] == b'"ann"'
        status, headers, body = site.ask("GET", f"{BASE}/info", headers={"authorization": "x"})
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
        assert json.loads(body)["detail"] == "log in first"


def test_the_authentication_middleware_of_starlette_identifies_the_user(tmp_path: Path) -> None:
    name = "starlette_authentication"

    def basic(user: str, password: str) -> Fields:
        given = base64.b64encode(f"{user}:{password}".encode()).decode()
        return {"authorization": f"Basic {given}"}

    with served(name, tmp_path, *uvicorn(name)) as site:
        two_users(site, basic("ann", "secret-1"), basic("bob", "secret-2"))
        for wrong in (basic("ann", "secret-2"), {"authorization": "Basic é!"}):
            wrong = {key: value.encode().decode("latin-1") for key, value in wrong.items()}
            assert site.ask("GET", f"{BASE}/info", headers=wrong)[0] == 401


def test_the_session_of_flask_identifies_the_user(tmp_path: Path) -> None:
    with served("flask_session", tmp_path) as site:
        ours = {"x-requested-with": "fetch"}
        ann = site.form("/login", name="ann", password="secret-1") | ours
        bob = site.form("/login", name="bob", password="secret-2") | ours
        two_users(site, ann, bob)
        status, said = site.run("t", {"cookie": ann["cookie"]})
        assert (status, json.loads(said)["detail"]) == (403, "x-requested-with is missing")
        forged = {"cookie": ann["cookie"][:-3] + "abc"}
        assert site.ask("GET", f"{BASE}/info", headers=forged)[0] == 401


def test_the_recipe_of_django_keeps_users_apart_and_takes_no_forged_token(tmp_path: Path) -> None:
    with served("django_session", tmp_path) as site:

        def login(name: str, password: str) -> Fields:
            _, headers, token = site.ask("GET", "/form")
            fields = {"name": name, "password": password}
            sent = cookies_in(headers) | {"x-csrftoken": token.decode()}
            logged_in = site.form("/login", sent, **fields)
            # A login gives a new token, whose cookie comes with that of the session.
            secret = dict(pair.split("=") for pair in logged_in["cookie"].split("; "))
            return logged_in | {"x-csrftoken": secret["csrftoken"]}

        ann, bob = login("ann", "secret-1"), login("bob", "secret-2")
        two_users(site, ann, bob)
        status, said = site.run("t", {"cookie": ann["cookie"]})
        assert (status, json.loads(said)["error"]) == (403, "the CSRF token is missing or wrong")
        assert site.run("t", ann | {"x-csrftoken": bob["x-csrftoken"]})[0] == 403


class Provider:
    """The keys of an OpenID Connect provider, at an address of this machine."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        keys = json.dumps({"keys": [{**public, "kid": "1", "use": "sig", "alg": "RS256"}]})

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(keys.encode())

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"

    @contextlib.contextmanager
    def serving(self) -> Iterator[Provider]:
        thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield self
        finally:
            self.server.shutdown()
            self.server.server_close()
            thread.join()

    def token(self, key: Any = None, algorithm: str = "RS256", **claims: Any) -> Fields:
        content = {"iss": self.url, "aud": "copilot", "sub": "ann", "exp": time.time() + 60}
        text = jwt.encode(content | claims, key or self.key, algorithm, {"kid": "1"})
        return {"authorization": f"Bearer {text}"}


def test_the_recipe_of_openid_connect_keeps_users_apart_and_takes_no_forged_token(
    tmp_path: Path,
) -> None:
    with Provider().serving() as provider:
        settings = {"OIDC_ISSUER": provider.url, "OIDC_KEYS": provider.url}
        with served("openid_connect", tmp_path, **settings) as site:
            two_users(site, provider.token(), provider.token(sub="bob"))
            other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            content = {"iss": provider.url, "aud": "copilot", "sub": "ann", "exp": 1 << 40}
            unsigned = jwt.encode(content, "", "none", {"kid": "1"})
            for wrong in (
                provider.token(exp=time.time() - 60),
                provider.token(aud="something else"),
                provider.token(iss="https://evil.example/"),
                provider.token(key=other),
                provider.token(key="x" * 32, algorithm="HS256"),
                {"authorization": f"Bearer {unsigned}"},
                {"authorization": "Bearer nonsense"},
            ):
                status, headers, _ = site.ask("GET", f"{BASE}/info", headers=wrong)
                assert (status, "invalid_token" in headers["www-authenticate"]) == (401, True)


def test_the_recipe_of_a_proxy_keeps_users_apart_and_takes_no_header_without_the_secret(
    tmp_path: Path,
) -> None:
    def named(*names: str, secret: str = "s3cret") -> Fields:
        return {"x-auth-request-user": ", ".join(names), "x-proxy-secret": secret}

    with served("proxy_headers", tmp_path, PROXY_SECRET="s3cret") as site:
        two_users(site, named("ann"), named("bob"))
        for wrong in (named("ann", secret="guessed"), named(""), {"x-auth-request-user": "ann"}):
            assert site.ask("GET", f"{BASE}/info", headers=wrong)[0] == 401


def test_the_recipe_of_cookies_keeps_users_apart_and_takes_nothing_from_other_sites(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COOKIE_KEY", "k3y")
    specification = importlib.util.spec_from_file_location("cookies", RECIPES / "cookies.py")
    assert specification is not None
    assert specification.loader is not None
    recipe = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(recipe)
    cookie_of: Callable[[str, float], str] = recipe.cookie_of
    page = {"origin": "https://app.example.com"}

    def cookie(name: str, now: float = time.time()) -> Fields:
        return {"cookie": cookie_of(name, now).partition(";")[0]}

    with served("cookies", tmp_path, COOKIE_KEY="k3y") as site:
        two_users(site, cookie("ann") | page, cookie("bob") | page)
        for origin in ({}, {"origin": "https://evil.example"}, {"origin": "null"}):
            assert site.run("t", cookie("ann") | origin)[0] == 403
        for wrong in (
            cookie("ann", 0.0),
            {"cookie": cookie("bob")["cookie"].replace("bob", "ann")},
            {"cookie": "session=ann"},
            {"cookie": "session="},
            {"cookie": "\xe9=; session=a.1.\xe9"},
        ):
            assert site.ask("GET", f"{BASE}/info", headers=wrong | page)[0] == 401
