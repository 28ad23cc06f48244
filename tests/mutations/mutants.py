"""Bugs that somebody could write, each with the tests that have to notice.

A specification as a table. ``make mutants`` plants each of them in a copy of the project and runs
its tests there, every one of which has to fail. The list has what hurts the most: what would make
the server lie, leak, or let somebody in.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

CORE = "sansio_copilot"
BINDINGS = "bindings/copilot_bindings"


def _names(tests: Iterable[str]) -> tuple[str, ...]:
    return tuple(tests)


@attrs.frozen
class Mutant:
    """A bug that is planted in a copy of the project, where tests have to find it.

    :param bug: what is wrong with it, in a line.
    :param file: which file of the project gets it.
    :param text: what stands there, exactly once.
    :param replacement: what stands there then.
    :param caught_by: the ids that pytest has for the tests that fail; of one with parameters any of
        them may.
    """

    name: str
    bug: str
    file: str
    text: str
    replacement: str
    caught_by: tuple[str, ...] = attrs.field(converter=_names)


EVENTS = [
    Mutant(
        "swap-two-events",
        "of events that are appended together the last comes first",
        f"{CORE}/runs/machine.py",
        "self._held += frames",
        "self._held[:0] = frames",
        [
            "tests/core/runs/test_machine.py::TestBatches::test_an_event_that_comes_later_is_appended_with_those_that_wait",
            "tests/soak/test_soak.py::test_a_server_bears_a_mixed_load[asyncio-memory-5]",
        ],
    ),
    Mutant(
        "drop-a-frame",
        "what waits for more is forgotten when the run ends",
        f"{CORE}/runs/machine.py",
        "frames, self._held = bytes(self._held) + last, bytearray()",
        "frames = last",
        [
            "tests/core/runs/test_machine.py::TestBatches::test_events_wait_until_the_run_ends",
            "tests/core/runs/test_machine.py::TestBatches::test_a_store_that_fails_does_not_lose_events_that_wait",
        ],
    ),
    Mutant(
        "forget-a-closer",
        "a run that is stopped leaves its steps open",
        f"{CORE}/runs/recorder.py",
        "closing[-1:] = [*self._verifier.closers(), closing[-1]]",
        "closing[-1:] = [closing[-1]]",
        [
            "tests/core/runs/test_recorder.py::TestFinish::test_a_stop_closes_steps_and_subagents_too"
        ],
    ),
    Mutant(
        "forget-a-message",
        "a text message that is open when its run breaks off is not ended",
        f"{CORE}/events/finalize.py",
        'self._open_messages[event["messageId"]] = None',
        "pass",
        [
            "tests/core/runs/test_recorder.py::TestFinish::test_open_entities_are_closed",
            "tests/core/events/test_finalize.py",
        ],
    ),
    Mutant(
        "one-id-twice",
        "two events of a run have the same id, so that a reader resumes at the wrong one",
        f"{CORE}/runs/recorder.py",
        "self.events += 1",
        "self.events = max(self.events, 1)",
        [
            "tests/core/runs/test_recorder.py::TestFrames::test_each_frame_has_the_run_and_its_position_for_an_id"
        ],
    ),
    Mutant(
        "resume-off-by-one",
        "a reader that resumes gets the event again that it has seen",
        f"{CORE}/sse.py",
        "return frames.index(_END, start + len(line)) + len(_END)",
        "return start + (start > 0)",
        [
            "tests/core/stores/test_memory.py::TestResuming::test_a_reader_resumes_behind_an_event_of_the_live_run",
            "tests/core/endpoints/test_runs.py::TestConnect::test_a_reader_that_was_cut_off_gets_only_what_it_missed",
        ],
    ),
    Mutant(
        "heartbeat-inside-a-frame",
        "a comment goes out wherever the log was cut for its length",
        f"{CORE}/exchange/stream.py",
        "            if size < limits.read_bytes:\n",
        "            if (yield SendBytes(sse.HEARTBEAT)) is None:\n",
        ["tests/core/exchange/test_machine.py::test_the_log_is_read_in_pieces_of_the_limit"],
    ),
]

RUNS = [
    Mutant(
        "a-stop-that-forgets-its-run",
        "a stop says that it stopped, and tells nobody",
        f"{CORE}/stores/memory/store.py",
        "        self._signal(run, Signal.STOP)\n        return True\n",
        "        return True\n",
        [
            "tests/core/stores/test_memory.py::TestSignals::test_a_stop_reaches_the_owner",
            "tests/core/endpoints/test_runs.py::TestStop::test_a_live_run_is_stopped_well_formed",
        ],
    ),
    Mutant(
        "a-409-that-opens-a-run",
        "a run that is refused takes the place of the one that is live",
        f"{CORE}/stores/memory/store.py",
        "return ThreadBusy(live.key.run_id)",
        "thread.live = KeptRun(live.key, request.agent_id); return ThreadBusy(live.key.run_id)",
        [
            "tests/core/stores/test_memory.py::TestConcurrentRuns::test_a_busy_thread_refuses_a_second_run_and_leaves_the_first_alone",
        ],
    ),
    Mutant(
        "a-rejected-run-stays-open",
        "a run whose response a hook has rejected keeps its thread busy for ever",
        f"{CORE}/exchange/stream.py",
        "yield from _clean_up(calls.close_run(",
        "yield from () and _clean_up(calls.close_run(",
        ["tests/core/test_hooks.py::test_a_run_whose_response_is_rejected_is_discarded"],
    ),
    Mutant(
        "drained-for-ever",
        "an agent of another thread that has ended is waited for once more",
        f"{BINDINGS}/serving/events_of_another_thread.py",
        "if self._over:",
        "if False:",
        ["tests/bindings/serving/test_agent_thread.py::test_an_agent_that_has_ended_stays_ended"],
    ),
    Mutant(
        "what-comes-twice-is-doubled",
        "frames that are appended again, because an answer was lost, are kept twice",
        f"{CORE}/stores/memory/store.py",
        "            frames = news\n",
        "            pass\n",
        ["tests/core/stores/test_conformance.py::TestMemoryStore"],
    ),
    Mutant(
        "a-thread-is-poisoned",
        "an agent may send what no client can send back, so that each further run is refused",
        f"{CORE}/runs/recorder.py",
        "check_fits(written, self._limits)",
        "pass",
        [
            "tests/core/events/test_next_body.py::TestKinds::test_a_deeper_value_is_refused_and_the_thread_goes_on",
            "tests/core/events/test_next_body.py::test_a_value_larger_than_a_body_is_refused",
        ],
    ),
]

LEAKS = [
    Mutant(
        "leak-a-reader",
        "a reader that leaves is told of every event for as long as the run lives",
        f"{CORE}/stores/memory/streams.py",
        "self.stream.watches.pop(self, None)",
        "pass",
        [
            "tests/core/stores/test_memory.py::TestWatching::test_a_cancelled_watch_of_a_log_is_silent"
        ],
    ),
    Mutant(
        "leak-a-place",
        "a connection that has ended counts for ever",
        f"{BINDINGS}/serving/admission.py",
        "self.connections.discard(connection)",
        "pass",
        ["tests/soak/test_soak.py::test_a_server_bears_a_mixed_load[asyncio-memory-5]"],
    ),
    Mutant(
        "leak-the-bytes-of-a-thread",
        "an evicted thread still counts, so that ever less is kept",
        f"{CORE}/stores/memory/eviction.py",
        "self.taken -= run.size\n",
        "self.taken -= 0\n",
        [
            "tests/core/stores/test_memory.py::TestAccounting::test_eviction_gives_back_what_a_thread_had"
        ],
    ),
    Mutant(
        "readers-keep-what-is-evicted",
        "what was evicted stays in memory for whoever reads it",
        f"{CORE}/stores/memory/streams.py",
        'self.lost, self.data = self.lost or len(self.data), b""',
        "pass",
        [
            "tests/core/stores/test_memory.py::TestLettingGo::test_sixty_readers_that_do_not_read_hold_no_more_than_the_bound",
            "tests/core/stores/test_memory.py::TestLettingGo::test_the_reader_of_a_deleted_or_cleared_thread_is_told",
        ],
    ),
    Mutant(
        "a-superseded-run-is-forgotten",
        "a run that another supersedes leaves no history",
        f"{CORE}/stores/memory/store.py",
        "thread.superseded.append(live)",
        "thread.superseded.append(live); live.detached = True",
        [
            "tests/core/stores/test_memory.py::TestConcurrentRuns::test_superseding_stops_the_live_run"
        ],
    ),
    Mutant(
        "slow-clients-fill-the-memory",
        "any number of clients may hold a long answer that they do not take",
        f"{CORE}/http/long_answers.py",
        "if held and more and held + more > self._room:",
        "if False:",
        ["tests/core/http/test_long_answers.py::test_a_long_answer_is_refused_until_there_is_room"],
    ),
]

APPROVALS = [
    Mutant(
        "an-approval-counts-twice",
        "an answer that a failed run was given is acted on again",
        f"{CORE}/agents/interrupts.py",
        'interrupts.status(entry.interrupt_id) == "open"',
        "interrupts.status(entry.interrupt_id)",
        [
            "tests/core/agents/test_interrupts.py::test_answers_that_do_not_fit_are_left_out",
            "tests/bindings/agents/test_builtin_agent.py::test_an_answer_that_a_failed_run_was_given_is_left_out_of_the_next_run",
        ],
    ),
    Mutant(
        "a-failed-run-has-answered-nothing",
        "the interrupts that a failed run was given answers to are open again",
        f"{CORE}/runs/thread_waits.py",
        '{**one, "answered": True} if answered is None or one["id"] in answered else one',
        "one",
        [
            "tests/core/runs/test_thread_waits.py::TestFailures::test_the_interrupts_that_a_failed_run_was_given_answers_to_are_marked",
            "tests/core/runs/test_thread_waits.py::TestFailures::test_a_run_that_was_lost_may_have_acted_on_its_answers",
            "tests/bindings/agents/test_builtin_agent.py::test_the_user_is_asked_again_if_the_failed_run_has_left_no_result",
        ],
    ),
    Mutant(
        "two-runs-have-one-answer",
        "a run that supersedes another finds the interrupt open that the other is the answer to",
        f"{CORE}/stores/memory/store.py",
        "waits_for = None if thread.superseded else thread.waits_for",
        "waits_for = thread.waits_for",
        [
            "tests/core/endpoints/test_runs.py::TestInterrupts::test_two_answers_at_once_find_one_open_interrupt_where_runs_supersede"
        ],
    ),
    Mutant(
        "the-last-answer-counts",
        "of two answers to one interrupt that contradict each other the last one counts",
        f"{CORE}/agents/interrupts.py",
        "if (other.status, other.payload) != (entry.status, entry.payload):",
        "if False:",
        [
            "tests/core/agents/test_interrupts.py::test_two_answers_that_contradict_each_other_are_refused"
        ],
    ),
]

HTTP = [
    Mutant(
        "skip-the-allow-header",
        "a 405 does not say what is allowed (RFC 9110 section 15.5.6)",
        f"{CORE}/http/refusals.py",
        'headers = Headers((("allow", ", ".join(allowed)),))',
        "headers = Headers(())",
        ["tests/core/test_vectors.py::test_each_request_is_answered_as_recorded"],
    ),
    Mutant(
        "a-body-limit-that-is-not-enforced",
        "a chunked body may be of any length",
        f"{BINDINGS}/serving/body_limits.py",
        "if self.size + size > self.limit:\n            raise BodyTooLarge\n        if (missing",
        "if (missing",
        [
            "tests/conformance/test_http.py::test_a_chunked_body_that_is_too_large_is_refused[asyncio_server]"
        ],
    ),
    Mutant(
        "an-announced-length-is-believed",
        "a client that announces a gigabyte is asked to send it",
        f"{BINDINGS}/serving/body_limits.py",
        "if self.size + size > self.limit:\n            raise BodyTooLarge\n        if size",
        "if size",
        [
            "tests/conformance/test_limits.py::TestSizes::test_a_body_of_a_gigabyte_is_refused_before_it_is_sent[asyncio_server-]"
        ],
    ),
    Mutant(
        "a-request-is-smuggled",
        "what stands behind a malformed request is answered",
        f"{BINDINGS}/http1/connection.py",
        "        self.parser.discard()\n        if (yield CloseWriting()) is GONE:\n",
        "        if (yield CloseWriting()) is GONE:\n",
        ["tests/bindings/http1/test_connection.py"],
    ),
]

ACCESS = [
    Mutant(
        "cors-for-a-foreign-origin",
        "a list of origins lets in every other one",
        f"{CORE}/http/cors.py",
        "allowed = request_origin in self.origin",
        "allowed = True",
        ["tests/core/http/test_cors.py::TestOrigin::test_several_origins_are_allowed"],
    ),
    Mutant(
        "cors-of-credentials-for-anybody",
        "an origin that is refused is allowed to send cookies",
        f"{CORE}/http/cors.py",
        "            return headers\n        headers = headers.set(",
        "            allowed = request_origin or '*'\n        headers = headers.set(",
        [
            "tests/core/http/test_cors.py::TestCredentials::test_a_refused_origin_gets_no_credentials"
        ],
    ),
    Mutant(
        "a-path-that-talks-past-a-hook",
        "a hook sees /public/../agent/x/run, the router /agent/x/run",
        f"{CORE}/exchange/pipeline.py",
        "self.request = attrs.evolve(self.request, path=self.path)",
        "pass",
        [
            "tests/core/exchange/test_machine.py::test_a_path_is_resolved_before_anybody_decides_by_it"
        ],
    ),
    Mutant(
        "a-cookie-reaches-the-agent",
        "every header of a client is forwarded",
        f"{CORE}/http/forwarding.py",
        'return name == "authorization" or name.startswith("x-")',
        "return True",
        ["tests/core/http/test_forwarding.py::TestWhatIsForwarded::test_no_other_header_goes_on"],
    ),
    Mutant(
        "a-client-sets-what-the-server-set",
        "a client's header replaces what the server has configured for an agent",
        f"{CORE}/http/forwarding.py",
        "if name not in taken and name not in merged and self.forwards(name):",
        "if self.forwards(name):",
        [
            "tests/core/http/test_forwarding.py::TestMerging::test_the_server_wins_in_its_own_spelling"
        ],
    ),
    Mutant(
        "an-exception-is-told",
        "what a hook raised is in the answer",
        f"{CORE}/exchange/pipeline.py",
        "where, exc_info=error)\n        return INTERNAL_ERROR\n",
        'where, exc_info=error)\n        return Response.json({"error": str(error)}, 500)\n',
        [
            "tests/core/exchange/test_machine.py::test_no_exception_text_is_sent_whatever_happens",
            "tests/core/test_hooks.py::test_an_exception_is_a_bare_500",
        ],
    ),
    Mutant(
        "threads-may-be-deleted-by-anybody",
        "thread_mutations has no effect",
        f"{CORE}/endpoints/threads.py",
        "    if not given.runtime.thread_mutations:\n"
        "        return (yield from hosted_platform.thread_operation(given))\n"
        '    if given.request.method == "DELETE":',
        '    if given.request.method == "DELETE":',
        [
            "tests/core/endpoints/test_threads.py::TestMutations::test_mutations_are_refused_unless_allowed"
        ],
    ),
    Mutant(
        "a-hook-sees-the-envelope",
        "a hook that decides by the thread of a run is shown the envelope around it",
        f"{CORE}/exchange/pipeline.py",
        "        self.request = inner.in_place_of(self.request, self.user)\n",
        "        self.request = self.request.in_place_of(self.request, self.user)\n",
        ["tests/core/test_hooks.py::test_hooks_see_the_same_request_in_both_modes"],
    ),
    Mutant(
        "a-framework-tells-all",
        "clients are sent the prompts that a framework puts into its events",
        f"{CORE}/runs/recorder.py",
        "event_dict(event, raw=self._raw_events)",
        "event_dict(event)",
        ["tests/core/agents/test_disclosure.py::test_raw_events_that_a_framework_adds_are_dropped"],
    ),
    Mutant(
        "an-error-event-is-told",
        "clients are sent the text of an agent's RUN_ERROR, whatever the application says",
        f"{CORE}/runs/recorder.py",
        'failure["message"] = self.teller.told(dict(failure), said)',
        'failure["message"] = said',
        [
            "tests/core/agents/test_disclosure.py::test_the_application_says_what_clients_are_told[/api/copilotkit/agent/a/run-yields]"
        ],
    ),
    Mutant(
        "one-context-for-all",
        "a context variable that a hook sets is seen by the agents of later requests",
        f"{BINDINGS}/http1/connection.py",
        "CallContext(service.context.current.copy())",
        "service.context",
        [
            "tests/conformance/test_contexts.py::test_each_request_of_one_connection_has_its_own_context[asyncio_server]"
        ],
    ),
    Mutant(
        "one-context-for-all-of-an-application",
        "the same, mounted in an application",
        f"{BINDINGS}/serving/context.py",
        "        context = copy_context()\n",
        '        context = globals().setdefault("_of_all", copy_context())\n',
        [
            "tests/conformance/test_contexts.py::test_each_request_of_one_connection_has_its_own_context[uvicorn]"
        ],
    ),
]

USERS = [
    Mutant(
        "nobody-may-come-in",
        "whoever is not known goes on as somebody without a name",
        f"{CORE}/exchange/pipeline.py",
        "            raise Refusal(UNAUTHORIZED)\n",
        "            return\n",
        ["tests/core/test_access_relations.py::test_a_client_that_is_not_known_is_told_nothing"],
    ),
    Mutant(
        "everybody-reads",
        "a history is read in nobody's name where a thread is another's",
        f"{CORE}/stores/memory/store.py",
        "return thread if thread is not None and thread.owner == owner else None",
        "return thread",
        [
            "tests/core/test_access_relations.py::test_a_thread_is_there_for_users_who_may_and_for_nobody_else"
        ],
    ),
    Mutant(
        "a-file-for-everybody",
        "a store on disk finds a thread for whoever knows its id",
        f"{BINDINGS}/stores/sqlite/reads.py",
        "WHERE thread_id = ? AND owner IS ? AND dead = 0",
        "WHERE thread_id = ? AND (owner IS ? OR 1) AND dead = 0",
        ["tests/bindings/stores/test_sqlite_conformance.py::TestSQLiteStore"],
    ),
    Mutant(
        "busy-is-told",
        "that another's thread is busy is told before whose it is",
        f"{CORE}/stores/memory/store.py",
        "        elif thread.owner != request.owner:\n",
        "        elif thread.owner != request.owner and thread.live is None:\n",
        ["tests/core/test_access_attempts.py::test_a_run_tells_that_the_thread_cannot_be_had"],
    ),
    Mutant(
        "one-feed-for-all",
        "the debug feed of a user is that of everybody",
        f"{CORE}/endpoints/debug_events.py",
        'feeds.of((yield from given.owner("debug")))',
        "feeds.of(None)",
        ["tests/core/test_access_attempts.py::test_a_feed_has_the_runs_of_its_user_only"],
    ),
    Mutant(
        "anybody-follows",
        "who asks for another's run follows it, as far as its end is concerned",
        f"{CORE}/endpoints/connect.py",
        "audiences.of(parsed.input.thread_id, owner)",
        'audiences.of(parsed.input.thread_id, "ann")',
        [
            "tests/core/test_access_attempts.py::test_a_reader_of_nothing_is_no_follower_of_anothers_run"
        ],
    ),
    Mutant(
        "a-slot-is-lost",
        "a run that is rejected at its start keeps its slot",
        f"{CORE}/exchange/stream.py",
        "            run.quota_slot.leave(None)\n",
        "            pass\n",
        [
            "tests/core/runs/test_quotas.py::TestLiveRuns::test_a_run_that_does_not_begin_leaves_its_place"
        ],
    ),
]

MUTANTS = [*EVENTS, *RUNS, *LEAKS, *APPROVALS, *HTTP, *ACCESS, *USERS]
