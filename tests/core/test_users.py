"""The functions of an application say who asks, and in whose name: their results and times."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
from support.relations import BASE, World, identify

from sansio_copilot import (
    CopilotRuntime,
    CorsPolicy,
    HookContext,
    Hooks,
    MemoryStore,
    Reject,
    Request,
    Response,
    User,
    text_agent,
)
from sansio_copilot.stores import RunRequest, ThreadOwner
from sansio_copilot.testing import Client, run_input

RUN, INFO, THREADS = f"{BASE}/agent/default/run", f"{BASE}/info", f"{BASE}/threads"
ANN, BOB = {"x-user": "ann"}, {"x-user": "bob"}


@text_agent
def hello(input: Any, context: Any) -> Iterator[str]:
    yield f"Hello {context.user.id}" if context.user else "Hello"


def client(**options: Any) -> Client:
    return Client(CopilotRuntime({"default": hello}, **{"identify_user": identify, **options}))


class TestUser:
    def test_a_user_is_told_from_others_by_the_id(self) -> None:
        assert User("ann", data=1) == User("ann", data=2) != User("Ann")
        assert hash(User("ann", data=[])) == hash(User("ann"))
        assert "secret" not in repr(User("ann", data="secret"))

    @pytest.mark.parametrize("user_id", ["", "x" * 1001])
    def test_an_id_has_a_length(self, user_id: str) -> None:
        with pytest.raises(ValueError, match="has 1 to 1000 characters"):
            User(user_id)

    def test_an_id_is_a_str(self) -> None:
        with pytest.raises(TypeError, match="the id of a user is a str, not int"):
            User(5)  # type: ignore[arg-type]


class TestArguments:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"identify_user": "ann"}, "identify_user is a function of a Request, not str"),
            ({"authorize": True}, "authorize is a function of a user, .*, not bool"),
        ],
    )
    def test_an_argument_of_the_wrong_type_is_refused(
        self, options: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(TypeError, match=message):
            client(**options)

    def test_authorize_needs_identify_user(self) -> None:
        with pytest.raises(ValueError, match="authorize needs identify_user"):
            client(identify_user=None, authorize=lambda *args: True)

    def test_a_store_has_to_know_whose_a_thread_is(self) -> None:
        class Old(MemoryStore):
            owner_of = None  # type: ignore[assignment]

        with pytest.raises(TypeError, match="the store Old has no owner_of, which authorize"):
            client(store=Old(), authorize=lambda *args: True)
        runtime = client(authorize=lambda *args: True).runtime
        with pytest.raises(TypeError, match="the store Old has no owner_of"):
            runtime.with_store(Old())
        assert client(store=Old()).get(INFO, headers=ANN).status == 200


class TestIdentifying:
    def test_a_function_may_be_async(self) -> None:
        async def asynchronous(request: Request) -> User | None:
            return identify(request)

        asked = client(identify_user=asynchronous)
        assert asked.get(INFO).status == 401
        assert asked.get(INFO, headers=ANN).status == 200

    def test_users_are_identified_after_on_request_and_before_other_hooks(self) -> None:
        """Users are asked for after on_request, which may correct the request, before all else."""
        calls: list[str] = []

        def note(name: str) -> Callable[[HookContext], None]:
            return lambda context: calls.append(f"{name} {context.user and context.user.id}")

        def identify_and_note(request: Request) -> User | None:
            assert request.body is None
            calls.append("identify")
            return identify(request)

        hooks = Hooks(on_request=note("request"), on_before_handler=note("before"))
        hooks = attrs.evolve(hooks, on_response=note("response"))
        asked = client(identify_user=identify_and_note, hooks=hooks)
        asked.post(RUN, json=run_input("t"), headers=ANN)
        assert calls == ["request None", "identify", "before ann", "response ann"]
        calls.clear()
        asked.get("/elsewhere")
        assert calls == ["request None", "identify", "response None"], "no path is told of"

    def test_a_preflight_is_of_nobody(self) -> None:
        asked = client(cors=CorsPolicy(origin="https://a.example"))
        origin = {"origin": "https://a.example", "access-control-request-method": "POST"}
        assert asked.request("OPTIONS", RUN, headers=origin).status == 204
        told = asked.get(INFO, headers={"origin": "https://a.example"})
        assert told.status == 401
        assert told.headers["access-control-allow-origin"] == "https://a.example"

    def test_a_hook_may_rewrite_what_it_looks_at(self) -> None:
        def trust(context: HookContext) -> Request:
            return Request("GET", context.request.path, headers=ANN)

        assert client(hooks=Hooks(on_request=trust)).get(INFO).status == 200

    def test_identify_user_may_reject(self) -> None:
        def reject(request: Request) -> User:
            raise Reject(Response.json({"error": "expired"}, 403))

        told = client(identify_user=reject).get(INFO)
        assert (told.status, told.json()) == (403, {"error": "expired"})

    @pytest.mark.parametrize("wrong", ["ann", {"id": "ann"}, True])
    def test_a_value_that_is_no_user_is_a_fault(
        self, wrong: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert client(identify_user=lambda request: wrong).get(INFO).status == 500
        assert f"identify_user returned {type(wrong).__name__}, expected a User" in caplog.text

    def test_an_identify_user_that_fails_lets_nobody_in(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(request: Request) -> User:
            raise RuntimeError("the directory is down")

        told = client(identify_user=fail).get(INFO)
        assert (told.status, told.body) == (500, b'{"error":"internal_error"}')
        assert "failed in the function identify_user" in caplog.text

    def test_a_function_that_picks_agents_knows_the_user(self) -> None:
        def agents(request: Request) -> dict[str, Any]:
            assert request.user is not None
            return {f"of-{request.user.id}": hello}

        runtime = CopilotRuntime(agents, identify_user=identify)
        assert list(Client(runtime).get(INFO, headers=ANN).json()["agents"]) == ["of-ann"]

    def test_an_agent_knows_the_user_and_nothing_of_the_server(self) -> None:
        seen: list[Any] = []

        @text_agent
        def look(input: Any, context: Any) -> Iterator[str]:
            seen.append(context)
            yield "x"

        runtime = CopilotRuntime({"default": look}, identify_user=identify)
        body = b'{"threadId":"t","runId":"r","state":{},"messages":[],"tools":[],"context":[]}'
        request = Request("POST", RUN, "", ANN, body, scope={"a": 1}, environ={"b": 2})
        exchange = runtime.exchange(request, 0.0)
        from sansio_copilot.actions import StartRun
        from sansio_copilot.testing.loopless import perform

        action: Any = exchange.start()
        while not isinstance(action, StartRun):
            action = exchange.done(perform(action))
        list(action.run.events())
        [context] = seen
        assert context.user == context.request.user == User("ann")
        assert (context.request.scope, context.request.environ) == (None, None)
        assert context.request.body is None


def test_the_user_who_has_started_a_run_is_told_of_it() -> None:
    told: list[Any] = []
    hooks = Hooks(on_run_start=told.append, on_run_end=told.append)
    asked = client(hooks=hooks)
    asked.post(RUN, json=run_input("t"), headers=ANN)
    assert [each.user for each in told] == [User("ann"), User("ann")]


class TestRequest:
    def test_a_replacement_keeps_what_the_server_knows(self) -> None:
        scope, environ = {"a": 1}, {"b": 2}
        old = Request("GET", "/", scope=scope, environ=environ)
        new = Request("GET", "/x").in_place_of(old, User("ann"))
        assert (new.scope, new.environ, new.user) == (scope, environ, User("ann"))
        assert new.in_place_of(old, new.user) is new
        assert Request("GET", "/x").in_place_of(Request("GET", "/"), None).user is None

    def test_nothing_of_the_server_is_compared_or_shown(self) -> None:
        request = Request("GET", "/", scope={"secret": 1}, environ={"secret": 2})
        assert request == Request("GET", "/")
        assert "secret" not in repr(request)

    def test_a_request_that_is_outlived_keeps_the_user_alone(self) -> None:
        request = Request("GET", "/", body=b"x", user=User("ann"), scope={})
        assert request.outlived() == Request("GET", "/", user=User("ann"))
        assert request.outlived().scope is None
        assert Request("GET", "/", body=b"x").outlived().body is None

    def test_the_body_of_a_request_is_read_as_json(self) -> None:
        assert Request("POST", "/", body=b'{"a":[1]}').json() == {"a": [1]}
        for body, message in (
            (None, "has not been read"),
            (b"{", "Expecting"),
            (b"[1,2,3]", "more than 3 JSON values"),
        ):
            with pytest.raises(ValueError, match=message):
                Request("POST", "/", body=body).json(3)


class TestAuthorizing:
    def messages(self, told: Any) -> bytes:
        """Return the messages that Bob is told of Ann's thread."""
        world = World()
        world.open()
        world.finish()
        authorized = World(world.store, authorize=lambda user, action, thread_id: told)
        return authorized.get("threads/t/messages", "bob").body

    def test_authorize_may_return_a_bool_or_a_name(self) -> None:
        nothing = b'{"messages":[]}'
        assert self.messages(True) != nothing
        assert self.messages("ann") != nothing
        assert self.messages(False) == self.messages(None) == self.messages("carol") == nothing

    def test_users_do_not_lose_their_own_threads(self) -> None:
        """The function widens what a user may do, and does not narrow it."""
        world = World(authorize=lambda user, action, thread_id: False)
        world.open()
        world.finish()
        assert world.get("threads/t/messages", "ann").body != b'{"messages":[]}'

    @pytest.mark.parametrize("wrong", ["", 1, User("ann"), {"ann"}])
    def test_a_value_of_another_type_from_authorize_is_a_fault(
        self, wrong: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        asked = client(authorize=lambda *args: wrong)
        assert asked.get(f"{THREADS}/t/messages", headers=ANN).status == 500
        assert f"authorize returned {type(wrong).__name__}, expected a bool" in caplog.text

    def test_authorize_is_asked_with_the_user_action_and_thread(self) -> None:
        asked_for: list[tuple[str, str, str | None]] = []

        async def note(user: User, action: Any, thread_id: str | None) -> bool:
            asked_for.append((user.id, action, thread_id))
            return False

        asked = client(authorize=note, thread_mutations=True, debug=True)
        asked.post(RUN, json=run_input("t"), headers=ANN)
        asked.post(f"{BASE}/agent/default/suggest", json=run_input("t"), headers=ANN)
        for method, path in (
            ("GET", "threads/t/state"),
            ("GET", "threads"),
            ("POST", "threads/t/archive"),
            ("DELETE", "threads/t"),
            ("POST", "threads/clear"),
            ("POST", "agent/default/stop/t"),
            ("GET", "info"),
        ):
            asked.request(method, f"{BASE}/{path}", headers=ANN)
        actions = ["run", "read", "list", "archive", "delete", "clear", "stop"]
        assert [action for _, action, _ in asked_for] == actions
        assert [thread for *_, thread in asked_for] == ["t", "t", None, "t", "t", None, "t"]

    def test_a_thread_may_be_opened_for_a_team(self) -> None:
        def team(user: User, action: str, thread_id: str | None) -> str:
            return "team"

        world = World(authorize=team)
        world.open(user="ann")
        world.finish()
        assert world.store.owner_of("t") == ThreadOwner("team")
        assert b'"t"' in world.get("threads", "bob").body
        assert world.post("threads/clear", {}, "bob").status == 204
        assert world.store.owner_of("t") is None

    def test_a_user_who_may_do_anything_opens_threads_of_their_own(self) -> None:
        world = World(authorize=lambda *args: True)
        world.open("new", user="admin")
        assert world.store.owner_of("new") == ThreadOwner("admin")

    def test_a_thread_that_is_nobodys_is_there_for_users_whom_authorize_lets_in(self) -> None:
        """The thread was written before there were users, and stays nobody's."""
        store = MemoryStore()
        key = store.open_run(RunRequest("old", "r", "default")).key  # type: ignore[union-attr]
        world = World(store, authorize=lambda user, action, thread: user.id == "ann")
        stop = world.post("agent/default/stop/old", {}, "bob")
        assert stop.body.startswith(b'{"stopped":false')
        stop = world.post("agent/default/stop/old", {}, "ann")
        assert stop.body.startswith(b'{"stopped":true')
        assert store.owner_of("old") == ThreadOwner(None)
        store.close_run(key, 0, b"", None)


class TestWithoutUsers:
    def exposed(self, caplog: pytest.LogCaptureFixture, **options: Any) -> Client:
        caplog.set_level(logging.WARNING, "sansio_copilot")
        return Client(client(**options).runtime.where_exposed())

    def statuses(self, asked: Client) -> list[int]:
        clear = asked.post(f"{THREADS}/clear")
        return [asked.get(THREADS).status, clear.status]

    def test_a_server_that_others_reach_lists_and_clears_nothing(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        asked = self.exposed(caplog, identify_user=None)
        asked.post(RUN, json=run_input("t"))
        assert self.statuses(asked) == [403, 403]
        assert asked.get(INFO).json()["threadEndpoints"]["list"] is False
        assert asked.get(f"{THREADS}/t/messages").json()["messages"], "clear has done nothing"
        [record] = [one for one in caplog.records if "knows no users" in one.getMessage()]
        assert "no threads are listed or cleared" in record.getMessage()

    def test_a_server_that_others_reach_lists_and_clears_if_it_is_asked_to(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        asked = self.exposed(caplog, identify_user=None, shared_threads=True)
        assert self.statuses(asked) == [200, 204]
        assert asked.get(INFO).json()["threadEndpoints"]["list"] is True
        assert "knows no users" in caplog.text
        assert "no threads are listed" not in caplog.text

    def test_a_server_that_nobody_else_reaches_may_be_told_to_list_nothing(self) -> None:
        assert self.statuses(client(identify_user=None, shared_threads=False)) == [403, 403]
        assert self.statuses(client(identify_user=None)) == [200, 204]

    @pytest.mark.parametrize(
        ("field", "value", "status"),
        [
            ("x-forwarded-for", "192.0.2.7", 403),
            ("x-forwarded-for", "127.0.0.1, 192.0.2.7:80", 403),
            ("x-forwarded-for", "::ffff:127.0.0.1", 200),
            ("x-forwarded-for", "", 200),
            ("forwarded", 'for=127.0.0.1;proto=http, For="[2001:db8::1]:80"', 403),
            ("forwarded", "for=_hidden", 200),
            ("x-real-ip", "192.0.2.7", 403),
            ("x-real-ip", "127.0.0.1", 200),
        ],
    )
    def test_a_proxy_on_the_same_machine_serves_others(
        self, field: str, value: str, status: int
    ) -> None:
        asked = client(identify_user=None)
        assert asked.get(THREADS, headers={field: value}).status == status
        told = asked.get(INFO, headers={field: value}).json()["threadEndpoints"]
        assert told["list"] is (status == 200)
        shared = client(identify_user=None, shared_threads=True)
        assert shared.get(THREADS, headers={field: value}).status == 200
        ours = client().get(THREADS, headers={field: value, **ANN})
        assert ours.status == 200

    def test_a_runtime_with_users_lists_without_a_setting(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        asked = self.exposed(caplog)
        assert asked.get(THREADS, headers=ANN).status == 200
        assert not caplog.records
        assert asked.runtime.where_exposed() is asked.runtime
