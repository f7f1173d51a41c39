"""Collecting problems, asking in parallel, judging samples."""

from __future__ import annotations

import threading
from contextvars import ContextVar

import pytest

from meshproof.claims.findings import Findings, begun, notes_of
from meshproof.core.concurrency import together
from meshproof.core.errors import Broken, ClaimFailed, NotReady, Unavailable
from meshproof.probes.answers import HttpAnswer
from meshproof.traffic.shares import share_problems


def test_findings_that_a_thread_begins_are_known_to_who_asked() -> None:
    with begun() as outer:
        with begun() as found:
            Findings("certificates").examine("east a", ["expired"])
            together(Findings, ["things of another thread"])
        Findings("keys").examine("east b")
    Findings("what nobody asked for")
    assert [each.wrong for each in found] == [{"east a": ["expired"]}]
    assert [each.examined for each in outer] == [["east b"]]


def test_what_could_not_be_examined_is_a_note_and_nothing_else_makes_the_claim_unavailable() -> None:
    partly, wholly = Findings("gateways"), Findings("gateways")
    for findings in (partly, wholly):
        findings.skip({"gateway of west": "west has none", "gateway of north": "north has none"}, "name one")
    partly.examine("gateway of east")
    partly.advise("close a port")
    partly.advise("close a port")
    partly.conclude()
    assert notes_of([partly, wholly]) == (
        "not examined: gateway of west, since west has none",
        "not examined: gateway of north, since north has none",
        "close a port",
    )
    with pytest.raises(Unavailable) as caught:
        wholly.conclude()
    assert str(caught.value) == ("gateway of west, gateway of north: west has none; north has none\n  repair: name one")
    partly.examine("gateway of edge", ["is shut"])
    with pytest.raises(ClaimFailed, match="1 of 2 gateways are wrong"):
        partly.conclude()


def test_one_failure_tells_all_that_is_wrong() -> None:
    findings = Findings("certificates")
    findings.examine("east a")
    findings.examine("east b", ["expired", "too short"])
    findings.examine("west c", ["no SAN"])
    with pytest.raises(ClaimFailed) as caught:
        findings.conclude()
    assert str(caught.value) == (
        "2 of 3 certificates are wrong\n"
        "  last seen   east b: expired\n"
        "              east b: too short\n"
        "              west c: no SAN"
    )


def test_many_problems_are_counted_instead_of_shown() -> None:
    findings = Findings("pods")
    for number in range(20):
        findings.examine(f"p{number}", ["bad"])
    with pytest.raises(ClaimFailed, match="… and 8 more"):
        findings.conclude()


def test_nothing_examined_is_no_success() -> None:
    with pytest.raises(Broken, match="nothing was found to examine"):
        Findings("pods").conclude()


def test_work_is_done_together_and_answered_in_order() -> None:
    gate = threading.Barrier(3, timeout=5)

    def work(item: int) -> int:
        gate.wait()
        return item * item

    assert together(work, [1, 2, 3]) == [1, 4, 9]
    assert together(work, []) == []


def test_failed_claims_are_put_together_but_a_broken_probe_goes_first() -> None:
    def work(problem: Exception) -> None:
        raise problem

    with pytest.raises(ClaimFailed, match="one\ntwo"):
        together(work, [ClaimFailed("one"), ClaimFailed("two")])
    with pytest.raises(NotReady, match="exec"):
        together(work, [ClaimFailed("one"), NotReady("exec", "cut")])


def answers(*versions: str) -> list[HttpAnswer]:
    return [HttpAnswer(status=200, version=version, seconds=0.01) for version in versions]


def test_errors_in_a_sample_come_before_its_shares() -> None:
    sample = [
        *answers("v1"),
        HttpAnswer(status=503, version="", seconds=1),
        HttpAnswer(status=503, version="", seconds=1),
    ]
    assert share_problems(sample, {"v1": 0.5, "v2": 0.5}) == ["2 of 3 requests failed: HTTP 503 x2"]


def test_shares_are_tested_once_and_exactly() -> None:
    even = {"v1": 0.5, "v2": 0.5}
    assert share_problems(answers(*["v1"] * 100, *["v2"] * 100), even) == []
    (problem,) = share_problems(answers(*["v1"] * 200), even)
    assert problem.startswith("shares do not match the endpoint weights: v1 200, v2 0 of 200")


def test_work_in_other_threads_has_the_context_of_who_asked() -> None:
    variable: ContextVar[str] = ContextVar("whose")
    variable.set("mine")
    seen = together(lambda _: (variable.get(), threading.current_thread().daemon), range(3))
    assert seen == [("mine", False)] * 3, "nobody's daemons: what they do is done before the process ends"
