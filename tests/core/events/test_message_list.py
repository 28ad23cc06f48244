"""The conversation is a list, whatever it costs less than one."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansio_copilot.events.message_list import Conversation, Entry

Message = dict[str, Any]


class Model:
    """The same over a list, looked through from the beginning each time."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def find(self, message_id: str) -> Message | None:
        return next((m for m in self.messages if m["id"] == message_id), None)

    def carrier(self, call_id: str) -> Message | None:
        calling = (m for m in self.messages if call_id in ids_of_calls(m))
        return next(calling, None)

    def add_result(self, message: Message, carrier: Message) -> None:
        at = position(self.messages, carrier) + 1
        while at < len(self.messages) and self.messages[at].get("role") == "tool":
            at += 1
        self.messages.insert(at, message)

    def replace(self, old: Message, message: Message) -> None:
        self.messages[position(self.messages, old)] = message

    def merge(self, snapshot: list[Message]) -> None:
        latest = {message["id"]: message for message in snapshot}
        kept = {"activity", "reasoning"} - {message.get("role") for message in snapshot}
        merged, placed = [], set()
        for message in self.messages:
            if message.get("role") in kept:
                merged.append(message)
            elif message["id"] in latest and message["id"] not in placed:
                placed.add(message["id"])
                merged.append(latest[message["id"]])
        present = {message["id"] for message in merged}
        self.messages = merged + [m for m in snapshot if m["id"] not in present]


def position(messages: list[Message], wanted: Message) -> int:
    return next(at for at, message in enumerate(messages) if message is wanted)


def ids_of_calls(message: Message) -> list[str]:
    return [call["id"] for call in message.get("toolCalls", ())]


def message(message_id: str, role: str, *call_ids: str) -> Message:
    calls = [{"id": call_id, "function": {}} for call_id in call_ids]
    return {"id": message_id, "role": role, **({"toolCalls": calls} if calls else {})}


ids = st.sampled_from("abcdef")
roles = st.sampled_from(["assistant", "user", "tool", "tool", "activity", "reasoning"])
messages = st.builds(lambda message_id, role: message(message_id, role), ids, roles)
actions = st.one_of(
    st.tuples(st.just("append"), messages),
    st.tuples(st.just("result"), ids, ids),
    st.tuples(st.just("result"), ids, ids),
    st.tuples(st.just("replace"), ids, roles),
    st.tuples(
        st.just("merge"), st.lists(messages, max_size=4, unique_by=lambda message: message["id"])
    ),
)


HISTORIES = {
    "a result before the one that has its id already": [
        ("append", message("a", "assistant")),
        ("append", message("b", "user")),
        ("append", message("r", "user")),
        ("result", "r", "a"),
        ("replace", "r", "activity"),
        ("merge", []),
        ("replace", "r", "tool"),
    ],
    "twins, of which the first in order stays": [
        ("append", message("b", "activity")),
        ("append", message("a", "assistant")),
        ("append", message("b", "assistant")),
        ("merge", [message("a", "assistant"), message("b", "activity")]),
    ],
    "twins that are gone before the first of them is": [
        ("append", message("z", "reasoning")),
        ("append", message("a", "assistant")),
        ("result", "z", "a"),
        ("result", "z", "a"),
        ("merge", []),
        ("merge", [message("y", "reasoning")]),
        ("append", message("z", "user")),
    ],
    "a row whose first is removed, then its last, and what stands between two rows": [
        ("append", message("a", "assistant")),
        *[("result", name, "a") for name in "bcdef"],
        ("merge", [message(name, "tool") for name in "cde"]),
        ("append", message("a", "assistant")),
        ("result", "g", "a"),
        ("replace", "d", "activity"),
        ("merge", [message(name, "tool") for name in "ceg"]),
        ("append", message("x", "tool")),
        ("replace", "c", "user"),
        ("replace", "c", "tool"),
        ("merge", [message("a", "assistant"), message("e", "tool"), message("h", "activity")]),
        ("result", "i", "a"),
    ],
    "two rows, of which what parts them is removed": [
        ("append", message("a", "assistant")),
        ("append", message("b", "tool")),
        ("append", message("d", "user")),
        ("append", message("c", "tool")),
        ("merge", [message(name, "assistant" if name == "a" else "tool") for name in "abc"]),
        ("result", "e", "a"),
        ("append", message("f", "user")),
        ("result", "g", "a"),
    ],
}


def compare(actions: list[Any]) -> None:
    conversation, model = Conversation(), Model()
    for action, *arguments in actions:
        if action == "append":
            [new] = arguments
            model.messages.append(new)
            conversation.append(new)
        elif action == "result":
            message_id, carrier_id = arguments
            carrier, entry = model.find(carrier_id), conversation.by_id.get(carrier_id)
            if carrier is None or carrier["role"] != "assistant" or model.find(message_id):
                continue
            assert entry is not None
            new = message(message_id, "tool")
            model.add_result(new, carrier)
            conversation.add_result(new, entry)
        elif action == "replace":
            message_id, role = arguments
            old, entry = model.find(message_id), conversation.by_id.get(message_id)
            if old is None:
                continue
            assert entry is not None
            new = message(message_id, role)
            model.replace(old, new)
            conversation.replace(entry, new)
        else:
            model.merge(*arguments)
            conversation.merge(*arguments)
        shown = conversation.messages()
        assert [id(message) for message in shown] == [id(message) for message in model.messages]
        for message_id in "abcdef":
            entry = conversation.by_id.get(message_id)
            assert (entry and entry.message) is model.find(message_id)


@pytest.mark.parametrize("actions", HISTORIES.values(), ids=HISTORIES)
def test_a_conversation_is_the_list_that_it_stands_for_in_known_cases(actions: list[Any]) -> None:
    compare(actions)


@given(st.lists(actions, max_size=30))
def test_a_conversation_is_the_list_that_it_stands_for(actions: list[Any]) -> None:
    compare(actions)


def test_the_first_in_order_of_two_results_with_one_id_counts() -> None:
    conversation = Conversation()
    carrier = conversation.append(message("a", "assistant"))
    conversation.append(message("b", "user"))
    later = conversation.append(message("r", "user"))
    first = conversation.add_result(message("r", "tool"), carrier)
    conversation.add_result(message("r", "tool"), carrier)
    assert conversation.by_id.get("r") is first
    conversation.merge([message("a", "assistant"), message("z", "reasoning")])
    assert conversation.by_id.get("r") is None
    assert [one["id"] for one in conversation.messages()] == ["a", "z"]
    assert later.message not in conversation.messages()


def test_a_twin_that_is_kept_is_found_when_the_first_is_gone() -> None:
    conversation = Conversation()
    carrier = conversation.append(message("a", "assistant"))
    thought = conversation.append(message("r", "reasoning"))
    for _ in range(2):
        conversation.add_result(message("r", "tool"), carrier)
    conversation.merge([])
    assert conversation.by_id.get("r") is thought
    conversation.add_result(message("s", "tool"), thought)


def test_a_call_belongs_to_the_first_message_that_has_it() -> None:
    conversation = Conversation()
    first = conversation.append(message("a", "assistant", "c", "d"))
    conversation.append(message("b", "assistant", "c"))
    call = conversation.calls.get("c")
    assert call is not None
    assert call.carrier is first
    conversation.replace(first, message("a", "activity"))
    assert conversation.calls.get("d") is None
    conversation.merge([message("b", "assistant", "c")])
    call = conversation.calls.get("c")
    assert call is not None
    assert call.carrier.message["id"] == "b"


def number_of_entries() -> int:
    return sum(isinstance(each, Entry) for each in gc.get_objects())


def test_a_closed_message_is_in_no_circle_of_references() -> None:
    """No finalizer breaks a circle up before the collector has looked at the objects."""
    gc.collect()
    before = number_of_entries()
    conversation = Conversation()
    for role in ("user", "assistant", "tool", "tool"):
        conversation.append(message(str(len(conversation.messages())), role))
    holder: list[object] = [conversation]
    holder.append(holder)
    known: list[Any] = []

    class Revived:
        def __init__(self, holder: list[object]) -> None:
            self.holder = holder

        def __del__(self) -> None:
            known.append(self.holder[0])

    holder.append(Revived(holder))
    del holder, conversation
    gc.collect()
    [revived] = known
    assert len(revived.messages()) == 4
    gc.disable()
    try:
        revived.close()
        revived.close()
        known.clear()
        del revived
        assert number_of_entries() == before
    finally:
        gc.enable()


def test_a_message_is_whole_whenever_it_is_settled() -> None:
    entry = Conversation().append(message("a", "assistant"))
    entry.settle()
    assert "content" not in entry.message
    entry.stream().extend(["Hel", "lo"])
    for _ in range(2):
        entry.settle()
        assert entry.message["content"] == "Hello"
    entry.stream().append("!")
    entry.settle()
    assert entry.message["content"] == "Hello!"
