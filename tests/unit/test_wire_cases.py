"""The shared byte-exact cases, as far as the parsers decide them: whole and cut at every byte alike."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.wire import Outcome, cut_at, in_bytes, read

CASES = json.loads((Path(__file__).parent.parent / "data" / "http_cases.json").read_text("utf-8"))
H1_CASES = [case for case in CASES if case["proto"] == "h1"]

# Nothing wrong with these bytes: what is wrong depends on the request, or on what the proxy does with them.
NOT_FOR_A_PARSER = {"r-101-unasked"}


def outcome_of(case: dict[str, str], chunks: list[bytes]) -> Outcome:
    method = case.get("method", "GET").split("-")[0].encode()
    return read(case["side"], chunks, method)


@pytest.mark.parametrize("case", H1_CASES, ids=[case["id"] for case in H1_CASES])
def test_case(case: dict[str, str]) -> None:
    data = case["bytes"].encode("latin-1")
    whole = outcome_of(case, [data])
    acceptable = {case["expect"], *case.get("also_ok", [])}
    if case["id"] in NOT_FOR_A_PARSER:
        assert whole.heads
    elif whole.error is not None and not is_answered(whole):
        assert acceptable & {"reject", "close"}
    elif case["expect"] == "close":
        assert not whole.bodies[-1][2]
    else:
        assert acceptable & {"forward", "normalise"}
    if case["side"] == "request":
        assert not any(head["target"] == b"/smuggled" for head in whole.heads) or is_pipelined(case)


@pytest.mark.parametrize("case", H1_CASES, ids=[case["id"] for case in H1_CASES])
def test_cuts_change_nothing(case: dict[str, str]) -> None:
    data = case["bytes"].encode("latin-1")
    whole = outcome_of(case, [data])
    step = max(1, len(data) // 300)
    for chunks in (in_bytes(data), *(cut_at(data, cut) for cut in range(1, len(data), step))):
        other = outcome_of(case, chunks)
        assert (other.error, other.heads) == (whole.error, whole.heads)
        if whole.error is None:
            assert other.bodies == whole.bodies


def is_pipelined(case: dict[str, str]) -> bool:
    """Upgrade cases: a second request follows for all to see, and is read as one if no tunnel opens."""
    return case["id"].startswith("q-up-")


def is_answered(outcome: Outcome) -> bool:
    """Whether a final response was complete: bytes beyond it are for the proxy to drop, whatever they are."""
    pairs = zip(outcome.heads, outcome.bodies, strict=False)
    return any(int(str(head.get("status", 0))) >= 200 and complete for head, (_, _, complete) in pairs)
