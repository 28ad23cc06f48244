"""A runtime in mode "both" answers as the recorded ones of each mode, each where it belongs."""

from __future__ import annotations

import pytest
from support.vectors import CONFIGS, Case, comparable, differences, load, name_of, scripted_agents

from sansio_copilot import CopilotRuntime
from sansio_copilot.http.paths import at_base_path
from sansio_copilot.http.routing import match_path
from sansio_copilot.testing import Client, ClientResponse

BASE = "/api/copilotkit"


def path_of(case: Case) -> str:
    path: str = BASE + case["request"]["path"].partition("?")[0]
    return path


def is_in_its_place(case: Case) -> bool:
    """Return whether the mode of the recorded answer is that of such a request in mode "both"."""
    is_envelope = case["config"] == "single"
    return at_base_path(path_of(case), BASE) is is_envelope and (
        not is_envelope or match_path(path_of(case), BASE) is None
    )


CASES = [case for case in load("http.json") if is_in_its_place(case)]


def answer_of(case: Case) -> ClientResponse:
    request, options = case["request"], CONFIGS[case["config"]]
    client = Client(
        CopilotRuntime(scripted_agents(), base_path=BASE, **{**options, "mode": "both"})
    )
    return client.request(
        request["method"],
        BASE + request["path"],
        headers=request.get("headers") or {},
        body=request.get("body", "").encode(),
    )


def test_both_modes_are_in_the_vectors() -> None:
    assert {case["config"] for case in CASES} == CONFIGS.keys()
    assert len(CASES) > 100


@pytest.mark.untraced
@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_the_answer_is_the_recorded_one(case: Case) -> None:
    answer = answer_of(case)
    if answer.status == 200 and "threadEndpoints" in case["expect"]["body"]:
        # The reply says what both kinds of clients may do.
        said, recorded = comparable(answer.json()), comparable(case["expect"]["body"])
        assert said.pop("singleRoute")["resourceOperations"] is True
        assert said.pop("threadEndpoints")["list"] is True
        assert said.items() <= recorded.items()
    else:
        assert not differences(case, answer)
