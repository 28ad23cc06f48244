"""JSON Patch: what RFC 6902 says, and no more than the budget."""

from __future__ import annotations

import contextlib
import copy
import json
from typing import Any

import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sansio_copilot.events import EventError, StateFolder
from sansio_copilot.events.input_shape import MAX_DEPTH
from sansio_copilot.events.json_values import measure
from sansio_copilot.events.patch import (
    PatchBudget,
    PatchDeclined,
    PatchHarmful,
    PatchTooDeep,
    apply_patch,
)


def add(path: str, value: Any) -> dict[str, Any]:
    return {"op": "add", "path": path, "value": value}


BAD_DELTAS: list[Any] = [
    None,
    7,
    "abc",
    {"op": "add", "path": "/x", "value": 1},
    [None],
    ["add"],
    [{}],
    [{"op": "add"}],
    [{"op": "add", "path": "/x"}],
    [{"op": "add", "path": 7, "value": 1}],
    [{"op": "add", "path": "x", "value": 1}],
    [{"op": "grow", "path": "/x", "value": 1}],
    [{"op": ["add"], "path": "/x", "value": 1}],
    [{"op": "add", "path": "/a/b", "value": 1}],
    [{"op": "add", "path": "/list/9", "value": 1}],
    [{"op": "add", "path": "/list/01", "value": 1}],
    [{"op": "add", "path": "/list/x", "value": 1}],
    [{"op": "add", "path": "/text/0", "value": 1}],
    [{"op": "replace", "path": "/no", "value": 1}],
    [{"op": "remove", "path": "/no"}],
    [{"op": "remove", "path": "/list/-"}],
    [{"op": "test", "path": "/a", "value": True}],
    [{"op": "move", "path": "/b", "from": "/no"}],
    [{"op": "move", "path": "/obj/k", "from": "/obj"}],
    [
        {"op": "add", "path": "/list/-", "value": {}},
        {"op": "move", "path": "/list/1/a", "from": "/list/0"},
    ],
    [{"op": "copy", "path": "/b"}],
    [{"op": "test", "path": "/list"}],
    [{"op": "test", "path": "/list", "value": [1, True]}],
    [{"op": "test", "path": "/list", "value": {"0": 1, "1": 2}}],
    [{"op": "remove", "path": ""}, {"op": "test", "path": "/a", "value": 1}],
    [{"op": "add", "path": "/obj/__proto__", "value": 1}],
    [{"op": "copy", "from": "/__proto__", "path": "/b"}],
    [{"op": "add", "path": "/constructor", "value": {}}, add("/constructor/prototype", 1)],
    [{"op": "remove", "path": "/list/7"}],
    [{"op": "remove", "path": "/list/0"}, {"op": "remove", "path": "/list/9"}],
    [{"op": "add", "path": "/~2", "value": 1}],
    [{"op": "add", "path": "/text/0/b", "value": 1}],
    [{"op": "remove", "path": "/obj"}, {"op": "test", "path": "/obj", "value": {}}],
]


@pytest.mark.parametrize("bad", BAD_DELTAS, ids=repr)
def test_a_delta_that_is_wrong_changes_nothing(bad: Any) -> None:
    state = {"a": 1, "text": "t", "list": [1, 2], "obj": {"k": {}}}
    before = copy.deepcopy(state)
    with pytest.raises(EventError, match="the delta does not apply"):
        apply_patch(state, bad, PatchBudget())
    assert state == before
    if isinstance(bad, list):
        first_good = [
            {"op": "remove", "path": "/a"},
            {"op": "move", "path": "/list/0", "from": "/text"},
            add("/list/-", 3),
        ]
        with pytest.raises(EventError):
            apply_patch(state, [*first_good, *bad], PatchBudget())
        assert state == before
        assert list(state) == list(before)


@pytest.mark.parametrize(
    ("document", "patch", "expected"),
    [
        ({"a": 1}, [{"op": "replace", "path": "", "value": []}], []),
        ({"a": 1}, [add("", 2)], 2),
        ({"a": 1}, [{"op": "remove", "path": ""}], None),
        ({}, [add("/toString", 1), {"op": "remove", "path": "/toString"}], {}),
        ({"a": 1, "b": 2}, [{"op": "remove", "path": "/a"}, add("/a", 3)], {"b": 2, "a": 3}),
        ({"a/b": {"~": 1}}, [{"op": "remove", "path": "/a~1b/~0"}], {"a/b": {}}),
        ({"a": [1, 2]}, [{"op": "move", "from": "/a/0", "path": "/a/1"}], {"a": [2, 1]}),
        ({"a": 1}, [{"op": "move", "from": "/a", "path": "/a"}], {"a": 1}),
        ({"a": [1]}, [{"op": "copy", "from": "/a", "path": "/a/-"}], {"a": [1, [1]]}),
        (
            {"a": {"b": 1, "c": 2}},
            [{"op": "remove", "path": "/a/b"}, {"op": "test", "path": "/a", "value": {"c": 2.0}}],
            {"a": {"c": 2}},
        ),
        ({"a": [True]}, [{"op": "test", "path": "/a", "value": (True,)}], {"a": [True]}),
    ],
)
def test_a_patch_makes_a_new_document(document: Any, patch: Any, expected: Any) -> None:
    assert json.dumps(apply_patch(document, patch, PatchBudget())) == json.dumps(expected)


names = st.sampled_from(["a", "b", "l", "0", "1", "-", "", "01", "~0", "~1", "x/y"])
pointers = st.lists(names, max_size=3).map(lambda parts: "".join("/" + part for part in parts))
values = st.recursive(
    st.sampled_from([None, True, 0, 1, 1.0, "t"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
operations = st.one_of(
    st.builds(dict, op=st.sampled_from(["add", "replace", "test"]), path=pointers, value=values),
    # The other implementation cannot remove the whole document.
    st.builds(dict, op=st.just("remove"), path=pointers.filter(bool)),
    st.builds(
        lambda op, path, source: {"op": op, "path": path, "from": source},
        st.sampled_from(["move", "copy"]),
        pointers,
        pointers,
    ),
)
documents = st.dictionaries(names, values, max_size=4)


def by_another(document: Any, patch: list[Any]) -> Any:
    """Apply the patch by another library, which looks for a move's place behind the removal."""
    for operation in patch:
        if operation["op"] == "move":
            jsonpatch.apply_patch(document, [{**operation, "op": "copy"}])
        document = jsonpatch.apply_patch(document, [operation])
    return document


@given(documents, st.lists(operations, max_size=5))
def test_a_patch_does_the_same_in_another_implementation(document: Any, patch: list[Any]) -> None:
    before, said = json.dumps(document), copy.deepcopy(patch)
    try:
        expected = by_another(copy.deepcopy(document), patch)
    except Exception:
        with pytest.raises(EventError, match=r"^the delta does not apply: "):
            apply_patch(document, patch, PatchBudget())
        assert json.loads(before) == document
    else:
        assert json.dumps(apply_patch(document, patch, PatchBudget())) == json.dumps(expected)
    assert patch == said


def test_a_value_that_cannot_be_copied_does_not_apply() -> None:
    with pytest.raises(EventError, match="the delta does not apply: TypeError"):
        apply_patch({}, [add("/a", (one for one in "ab"))], PatchBudget())


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "copy", "from": "/b/constructor", "path": "/c"},
        {"op": "move", "from": "/toString", "path": "/c"},
        {"op": "replace", "path": "/valueOf", "value": 1},
        {"op": "remove", "path": "/b/hasOwnProperty"},
        {"op": "copy", "from": "/list/constructor", "path": "/c"},
        {"op": "copy", "from": "/list/map", "path": "/c"},
        {"op": "copy", "from": "/text/length", "path": "/c"},
    ],
)
def test_a_member_that_a_client_finds_in_each_object_is_refused(operation: Any) -> None:
    document = {"a": 1, "b": {}, "list": [], "text": ""}
    with pytest.raises(PatchHarmful, match="that which each object of JavaScript inherits"):
        apply_patch(document, [{"op": "remove", "path": "/a"}, operation], PatchBudget())
    assert document == {"a": 1, "b": {}, "list": [], "text": ""}


class TestBudget:
    def test_copies_that_double_what_they_copy_come_to_an_end(self) -> None:
        doubling = [{"op": "copy", "from": "", "path": f"/{number}"} for number in range(40)]
        document = {"a": "x" * 1000}
        with pytest.raises(PatchDeclined, match="more than a run's patches may"):
            apply_patch(document, doubling, PatchBudget())
        assert document == {"a": "x" * 1000}

    def test_the_budget_holds_for_all_deltas_of_a_stream_together(self) -> None:
        folder = StateFolder({"a": "x" * 1000}, PatchBudget(10_000))
        copy_and_remove = [
            {"op": "copy", "from": "/a", "path": "/b"},
            {"op": "remove", "path": "/b"},
        ]
        delta = {"type": "STATE_DELTA", "delta": copy_and_remove}
        assert [folder.feed(delta) for _ in range(12)] == [True] * 9 + [False] * 3
        assert folder.declined is not None
        # Deltas that make nothing more than they say still apply.
        assert folder.feed({"type": "STATE_DELTA", "delta": [add("/c", "y" * 100_000)]})

    @pytest.mark.parametrize("what", ["x" * 20_000, "é" * 8_000, [0] * 5_000, {"k" * 20_000: 0}])
    def test_text_counts_as_much_as_it_is_in_bytes(self, what: Any) -> None:
        copying = [{"op": "copy", "from": "/a", "path": "/b"}]
        with pytest.raises(PatchDeclined):
            apply_patch({"a": what}, copying, PatchBudget(10_000))
        assert apply_patch({"a": what}, copying, PatchBudget(50_000)) == {"a": what, "b": what}

    @pytest.mark.parametrize("small", [[], {}, [0], {"a": 0}])
    def test_arrays_and_objects_count_for_the_work_that_they_are(self, small: Any) -> None:
        patch = [{"op": "copy", "from": "/a", "path": "/b"}]
        document = {"a": [small] * 1000}
        with pytest.raises(PatchDeclined):
            apply_patch(document, patch, PatchBudget(17_000))
        assert apply_patch(document, patch, PatchBudget(26_000))["b"] == [small] * 1000

    def test_a_few_copies_have_a_bound_on_what_they_make(self) -> None:
        document: dict[str, Any] = {"a": [0]}
        budget = PatchBudget()
        for _ in range(40):
            with contextlib.suppress(PatchDeclined):
                apply_patch(document, [{"op": "copy", "from": "/a", "path": "/a/-"}], budget)
        assert json.dumps(document).count("[") == 2**15

    def test_no_copy_is_measured_once_the_budget_is_spent(self) -> None:
        budget = PatchBudget(100)
        for source in ("/long", "/short"):
            with pytest.raises(PatchDeclined):
                apply_patch(
                    {"long": [0] * 1000, "short": 1},
                    [{"op": "copy", "from": source, "path": "/b"}],
                    budget,
                )
        assert budget.left == 0
        assert measure([[0]] * 1000, 0) == (1002, 1)

    @pytest.mark.parametrize(
        "operation",
        [
            add("/0", 1),
            {"op": "remove", "path": "/0"},
            {"op": "move", "from": "/0", "path": "/-"},
        ],
    )
    def test_an_operation_that_moves_a_long_list_is_charged(self, operation: Any) -> None:
        folder = StateFolder(list(range(32_000)), PatchBudget(10_000))
        delta = {"type": "STATE_DELTA", "delta": [operation]}
        applied = [folder.feed(delta) for _ in range(20)]
        assert applied == sorted(applied, reverse=True)
        assert sum(applied) == 10

    def test_an_operation_at_the_end_of_a_list_moves_nothing(self) -> None:
        document, budget = list(range(32_000)), PatchBudget(0)
        for _ in range(100):
            apply_patch(document, [add("/-", 1), {"op": "remove", "path": "/32000"}], budget)

    def test_a_value_that_is_said_or_renamed_is_not_charged(self) -> None:
        budget = PatchBudget(0)
        document = apply_patch({}, [add("/a", [0] * 10_000)], budget)
        patch = [
            {"op": "move", "from": "/a", "path": "/b"},
            {"op": "test", "path": "/b", "value": [0] * 10_000},
            {"op": "replace", "path": "/b", "value": [1]},
        ]
        assert apply_patch(document, patch, budget) == {"b": [1]}
        assert budget.made > 50_000


class TestDepth:
    def nested(self, levels: int) -> Any:
        value: Any = 0
        for _ in range(levels):
            value = {"a": value}
        return value

    def test_a_document_that_could_not_come_back_in_a_body_is_refused(self) -> None:
        # The body is a level, and the document another.
        fits = self.nested(MAX_DEPTH - 2)
        for operation in ("add", "replace"):
            patch = [{"op": operation, "path": "/b", "value": fits}]
            assert apply_patch({"b": 0}, patch, PatchBudget()) == {"b": fits}
            patch[0]["value"] = [fits]
            with pytest.raises(PatchDeclined, match="nested deeper than 199 levels"):
                apply_patch({"b": 0}, patch, PatchBudget())

    @pytest.mark.parametrize("operation", ["move", "copy"])
    def test_a_copy_or_move_that_nests_too_deeply_is_refused(self, operation: str) -> None:
        document = {"b": self.nested(MAX_DEPTH - 3), "c": {"d": {}}}
        patch = [{"op": operation, "from": "/b", "path": "/c/b"}]
        apply_patch(document, patch, PatchBudget())
        patch = [{"op": operation, "from": "/c/b", "path": "/c/d/b"}]
        with pytest.raises(PatchDeclined, match="nested deeper"):
            apply_patch(document, patch, PatchBudget())

    def test_a_document_that_stands_deeper_may_have_fewer_levels(self) -> None:
        patch = [add("/b", self.nested(3))]
        assert apply_patch({}, patch, PatchBudget(), 4) == {"b": patch[0]["value"]}
        with pytest.raises(PatchTooDeep, match="nested deeper than 3 levels"):
            apply_patch({}, patch, PatchBudget(), 3)

    def test_a_state_that_is_nested_step_by_step_has_the_same_bound(self) -> None:
        folder, path = StateFolder(), ""
        applied = 0
        for _ in range(300):
            path += "/a"
            applied += folder.feed({"type": "STATE_DELTA", "delta": [add(path, {})]})
        assert applied == MAX_DEPTH - 2
