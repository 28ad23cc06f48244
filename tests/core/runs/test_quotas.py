"""Tests of a user's quotas: live runs, runs in a minute, bytes that are stored."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from support.relations import BASE, World, identify

from sansio_copilot import CopilotRuntime, Hooks, Limits, MemoryStore, Reject, Response, text_agent
from sansio_copilot.runs.quotas import STORED_SECONDS, QuotaExceeded, Quotas, QuotaSlot
from sansio_copilot.testing import Client, ClientResponse, run_input

RUN, SUGGEST = f"{BASE}/agent/default/run", f"{BASE}/agent/default/suggest"


@text_agent
def hello(input: Any, context: Any) -> Iterator[str]:
    yield "Hello"
    yield " again"


def client(limits: Limits, **options: Any) -> Client:
    options.setdefault("identify_user", identify)
    return Client(CopilotRuntime({"default": hello}, limits=limits, **options))


def run(
    asked: Client, thread: str = "t", user: str = "ann", path: str = RUN, run_id: str = "r"
) -> ClientResponse:
    return asked.post(path, json=run_input(thread, run_id), headers={"x-user": user})


def live(asked: Client, thread: str, user: str = "ann", path: str = RUN) -> Any:
    """A run that has begun and goes on."""
    stream = asked.stream("POST", path, json=run_input(thread), headers={"x-user": user})
    assert stream.next()["type"] == "RUN_STARTED"
    return stream


def is_refused(answer: ClientResponse, seconds: int) -> bool:
    body = answer.json()
    assert body["error"] == "Too many requests"
    return (answer.status, answer.headers["retry-after"]) == (429, str(seconds))


class TestLiveRuns:
    def test_a_run_beyond_the_quota_is_refused_until_another_ends(self) -> None:
        asked = client(Limits(user_runs=2))
        first, second = live(asked, "a"), live(asked, "b")
        assert is_refused(run(asked, "c"), 1)
        assert run(asked, "d", user="bob").status == 200, "another has their own"
        first.finish()
        third = live(asked, "c")
        asked.post(f"{BASE}/agent/default/stop/c", headers={"x-user": "ann"})
        assert third.finish().events()[-1]["type"] == "RUN_FINISHED"
        second.finish()
        assert run(asked, "e").status == 200

    def test_suggestions_are_runs_too(self) -> None:
        asked = client(Limits(user_runs=1))
        suggestion = live(asked, "a", path=SUGGEST)
        assert is_refused(run(asked, "b"), 1)
        assert is_refused(run(asked, "b", path=SUGGEST), 1)
        suggestion.close()
        asked.step()
        assert run(asked, "b").status == 200

    def test_a_run_outlives_its_client_and_counts(self) -> None:
        asked = client(Limits(user_runs=1))
        live(asked, "a").close()
        assert is_refused(run(asked, "b"), 1)
        while asked.step():
            pass
        assert run(asked, "b").status == 200

    @pytest.mark.parametrize("how", ["busy", "another's", "invalid", "rejected", "replaced"])
    def test_a_run_that_does_not_begin_leaves_its_place(self, how: str) -> None:
        def reject(start: Any) -> None:
            if start.run_id == "no":
                raise Reject(Response(402))

        def replace(context: Any) -> Response | None:
            return Response(418) if "x-replace" in context.request.headers else None

        store = MemoryStore()
        hooks = Hooks(on_run_start=reject, on_response=replace)
        limits = Limits(user_runs=2, user_runs_per_minute=3)
        asked = client(limits, store=store, hooks=hooks)
        stream = live(asked, "live")
        run(client(Limits(), store=store), "bob's", user="bob")
        headers, thread, run_id, expected = {"x-user": "ann"}, "new", "r", 0
        match how:
            case "busy":
                thread, expected = "live", 409
            case "another's":
                thread, expected = "bob's", 404
            case "invalid":
                run_id, expected = "x" * 2000, 400
            case "rejected":
                run_id, expected = "no", 402
            case "replaced":
                headers, expected = {**headers, "x-replace": "1"}, 418
        for _ in range(5):
            answer = asked.post(RUN, json=run_input(thread, run_id), headers=headers)
            assert answer.status == expected
        assert run(asked, "new").status == 200
        assert run(asked, "new2").status == 200, "nor is it counted in the minute"
        assert run(asked, "new3").status == 429
        stream.finish()


class TestRunsAMinute:
    def test_a_run_beyond_the_quota_is_refused_until_the_minute_is_over(self) -> None:
        asked = client(Limits(user_runs_per_minute=2))
        assert run(asked).status == 200
        asked.advance(20.5)
        assert run(asked).status == 200
        for _ in range(3):
            assert is_refused(run(asked), 40)
        assert run(asked, "b", user="bob").status == 200
        asked.advance(39.5)
        assert run(asked).status == 200
        assert is_refused(run(asked), 21)

    def test_a_clock_that_is_put_back_locks_nobody_out(self) -> None:
        asked = client(Limits(user_runs_per_minute=1))
        assert run(asked).status == 200
        asked.advance(-3600)
        assert run(asked).status == 200


class TestBytesStored:
    def test_a_user_who_has_all_the_room_is_refused_until_they_delete(self) -> None:
        asked = client(Limits(user_bytes=2500), thread_mutations=True)
        assert run(asked, "a").status == 200
        assert run(asked, "b").status == 200
        while run(asked, "a").status == 200:
            pass
        assert is_refused(run(asked, "a"), 10)
        assert run(asked, "c", user="bob").status == 200
        for thread in ("a", "b"):
            asked.request("DELETE", f"{BASE}/threads/{thread}", headers={"x-user": "ann"})
        assert is_refused(run(asked, "a"), 10), "for as long as it is believed"
        asked.advance(STORED_SECONDS)
        assert run(asked, "a").status == 200

    def test_the_store_is_asked_once_in_a_while(self) -> None:
        world = World(limits=Limits(user_bytes=10_000_000))
        asked = "StoreCall store method bytes_of"
        assert asked in world.open("a").steps
        assert asked not in world.open("b").steps
        assert asked in world.open("c", user="bob").steps

    def test_clients_without_users_have_no_quotas(self) -> None:
        """There are no users here, and no limits of any."""
        asked = client(
            Limits(user_bytes=1, user_runs=1, user_runs_per_minute=1), identify_user=None
        )
        streams = [live(asked, f"{number}") for number in range(3)]
        assert [stream.finish().status for stream in streams] == [200] * 3

    def test_a_quota_needs_a_store_that_counts(self) -> None:
        class Old(MemoryStore):
            bytes_of = None  # type: ignore[assignment]

        with pytest.raises(TypeError, match="the store Old has no bytes_of, which Limits"):
            client(Limits(user_bytes=5), store=Old())


class TestQuotas:
    """The counts by themselves."""

    def test_quotas_without_limits_count_nothing(self) -> None:
        assert Quotas.of(Limits()) is None
        for name in ("user_runs", "user_runs_per_minute", "user_bytes"):
            assert Quotas.of(Limits(**{name: 1})) is not None

    def test_users_who_do_nothing_are_forgotten(self) -> None:
        quotas = Quotas(Limits(user_runs=5, user_runs_per_minute=5))
        waiting = quotas.enter("waits", 0.0)
        for number in range(1000):
            quotas.enter(f"{number}", 0.0).leave(1)
        assert len(quotas.users) == 1001
        for number in range(1100):
            quotas.enter("active", 61.0 + 61.0 * number).leave(1)
        assert quotas.users.keys() == {"waits", "active"}
        waiting.leave(1)
        quotas.enter("active", 1e9).leave(1)
        assert quotas.users.keys() == {"active"}

    def test_refusals_are_not_kept(self) -> None:
        quotas = Quotas(Limits(user_runs=1, user_runs_per_minute=3))
        slot = quotas.enter("ann", 0.0)
        for _ in range(1000):
            with pytest.raises(QuotaExceeded):
                quotas.enter("ann", 1.0)
        usage = quotas.users["ann"]
        assert (len(usage.live), len(usage.starts)) == (1, 1)
        slot.leave(5)
        slot.leave(None)
        assert not usage.live

    def test_threads_never_get_more_than_there_is(self) -> None:
        quotas = Quotas(Limits(user_runs=7, user_runs_per_minute=20))
        begun = threading.Barrier(8)
        entered: list[QuotaSlot] = []
        most = 0

        def hammer() -> None:
            nonlocal most
            begun.wait()
            for _ in range(300):
                try:
                    slot = quotas.enter("ann", 1.0)
                except QuotaExceeded:
                    continue
                entered.append(slot)
                most = max(most, len(quotas.users["ann"].live))
                slot.leave(0)

        threads = [threading.Thread(target=hammer) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert 1 <= len(entered) <= 20
        assert not quotas.users["ann"].live

    def test_a_quota_says_when_to_come_again(self) -> None:
        assert QuotaExceeded("", 0.1).seconds == 1
        assert QuotaExceeded("", 1.1).seconds == 2
        assert QuotaExceeded("", -5.0).seconds == 1

    def test_the_count_of_stored_bytes_is_believed_for_a_while(self) -> None:
        quotas = Quotas(Limits(user_bytes=10))
        assert quotas.has_to_ask("ann", 0.0)
        quotas.told("ann", 9, 0.0)
        assert not quotas.has_to_ask("ann", 9.9)
        quotas.check_stored("ann", 1.0)
        quotas.enter("ann", 1.0).leave(1)
        with pytest.raises(QuotaExceeded, match="delete some"):
            quotas.check_stored("ann", 1.0)
        assert quotas.has_to_ask("ann", 10.0)
        assert quotas.has_to_ask("ann", -1.0), "a clock may be put back"
        assert not Quotas(Limits(user_runs=1)).has_to_ask("ann", 0.0)

    def test_limits_that_are_not_given_are_infinite(self) -> None:
        quotas = Quotas(Limits(user_runs=1))
        for number in range(100):
            quotas.enter("ann", 0.0).leave(number)
        quotas.check_stored("ann", 0.0)
        assert Limits().user_runs == math.inf
