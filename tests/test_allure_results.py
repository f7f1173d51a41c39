"""What Allure and JUnit are given, in runs of their own with a made-up provider."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.test_pytest_glue import CONFTEST

pytest_plugins = ["pytester"]

CLAIMS = """
import threading
import pytest
from meshproof.claims.claim import REMOTES, Registry, claim
from meshproof.core.errors import Broken, ClaimFailed, Unavailable
from meshproof.claims.findings import Findings

told = dict(promised_by="istio.io, Plug in CA Certificates; RFC 5280, 6.1", hint="look there", registry=Registry())

@claim("TRUST-01", "one root {everywhere}", **told)
def test_bad(topology, evidence):
    '''Two roots are two meshes.'''
    evidence.attach("seen", {"root": "AB:CD"})
    findings = Findings("places")
    findings.examine("east", ["another root"])
    findings.examine("west")
    findings.conclude()

@claim("TRUST-02", "nobody knows", **told)
def test_broken(topology):
    raise Broken("exec", "cut off", "try again")

@claim("TRUST-03", "it cannot be asked here", **told)
def test_unavailable(topology):
    raise Unavailable("netem", "this kernel has none")

@claim("CONTROL-01", "remotes only", needs=REMOTES, **told)
def test_remotes(topology):
    pass

@pytest.fixture
def set_up(narrator):
    with narrator.step("clusters are made"):
        pass

@claim("FAILOVER-01", "it survives", disruptive=True, **told)
def test_drill(topology, set_up, narrator):
    def beside():
        with narrator.step("a thread's own"):
            pass

    with narrator.step("istiod stopped"):
        thread = threading.Thread(target=beside)
        thread.start()
        thread.join()
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    for name in ("GITHUB_SERVER_URL", "CI_PROJECT_URL", "MESHPROOF_CLAIMS_URL"):
        monkeypatch.delenv(name, raising=False)
    pytester.makeconftest(CONFTEST)
    pytester.makeini(
        "[pytest]\naddopts = --import-mode=importlib -p no:cacheprovider\n"
        "markers =\n    claim(code): a claim\n    disruptive: it breaks things"
    )
    pytester.makepyfile(test_claims=CLAIMS)
    return pytester


def told(run: pytest.Pytester, kind: str = "result") -> Iterator[dict[str, Any]]:
    for path in (run.path / "reports" / "allure-results").glob(f"*-{kind}.json"):
        yield json.loads(path.read_text())


def stories(run: pytest.Pytester) -> dict[str, dict[str, Any]]:
    """Results by the code of their claim."""
    return {label["value"]: each for each in told(run) for label in each["labels"] if label["name"] == "story"}


def test_a_failed_claim_tells_cause_and_repair_in_its_name_and_its_message(run: pytest.Pytester) -> None:
    run.runpytest("--topology=multi-primary-samenet")
    bad = stories(run)["TRUST-01"]
    first = "TRUST-01 one root {everywhere}: 1 of 2 places are wrong"
    assert bad["name"] == f"{first} ▸ last seen east: another root ▸ try look there"
    assert bad["statusDetails"] == {
        "message": f"{first}\n"
        "  last seen   east: another root\n"
        "  mesh        multi-primary-samenet: cluster1(primary, network1) cluster2(primary, network1)\n"
        "  look at     reports/evidence/multi-primary-samenet/TRUST-01/seen.json\n"
        "  promised    istio.io, Plug in CA Certificates; RFC 5280, 6.1\n"
        "  try         look there\n"
        "  again       pytest --topology=multi-primary-samenet -k TRUST-01 --keep"
    }
    assert [(step["name"], step["status"], step.get("statusDetails")) for step in bad["steps"]] == [
        ("east", "failed", {"message": "another root"}),
        ("west", "passed", None),
    ]
    assert [(each["name"], each["type"]) for each in bad["attachments"]] == [("seen.json", "application/json")]


def test_every_claim_has_its_labels_links_and_title_even_if_it_is_skipped(run: pytest.Pytester) -> None:
    run.runpytest("--topology=multi-primary-samenet")
    found = stories(run)
    assert {code: each["status"] for code, each in found.items()} == {
        "TRUST-01": "failed",
        "TRUST-02": "broken",
        "TRUST-03": "skipped",
        "CONTROL-01": "skipped",
        "FAILOVER-01": "passed",
    }
    for code, each in found.items():
        labels = {(label["name"], label["value"]) for label in each["labels"]}
        assert {("epic", "multi-primary-samenet"), ("tag", code.partition("-")[0])} <= labels
        assert each["description"].endswith(f"\n\ndocs/claims.md#{code}")
        assert [link["url"] for link in each["links"]] == [
            "https://istio.io/latest/docs/tasks/security/cert-management/plugin-ca-cert/",
            "https://www.rfc-editor.org/rfc/rfc5280",
        ]
    assert found["FAILOVER-01"]["name"] == "FAILOVER-01 it survives"
    assert found["TRUST-01"]["description"] == (
        "Two roots are two meshes.\n\n**Promised by** istio.io, Plug in CA Certificates; RFC 5280, 6.1\n\n"
        "**If it fails** look there\n\ndocs/claims.md#TRUST-01"
    )
    assert found["TRUST-02"]["name"].endswith("▸ exec: cut off ▸ repair: try again")
    reasons = {code: found[code]["statusDetails"] for code in ("TRUST-03", "CONTROL-01")}
    assert reasons == {
        "TRUST-03": {"message": "netem: this kernel has none"},
        "CONTROL-01": {"message": "does not apply: multi-primary-samenet: every cluster is a primary"},
    }


def test_where_its_document_is_on_the_web_the_claim_is_a_link_too(
    run: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESHPROOF_CLAIMS_URL", "https://forge/claims.md")
    run.runpytest("--topology=multi-primary-samenet", "-k", "TRUST-01")
    assert stories(run)["TRUST-01"]["links"][0] == {
        "type": "tms",
        "url": "https://forge/claims.md#TRUST-01",
        "name": "TRUST-01 in docs/claims.md",
    }


def test_four_topologies_are_four_tests(run: pytest.Pytester) -> None:
    run.runpytest("--topology=all", "-k", "TRUST-01")
    assert len({each["historyId"] for each in told(run)}) == 4
    assert len({each["testCaseId"] for each in told(run)}) == 1


def test_steps_are_told_where_they_were_taken_and_nothing_else_of_set_up(run: pytest.Pytester) -> None:
    run.runpytest("--topology=multi-primary-samenet", "-k", "FAILOVER-01", "-q")
    (step,) = stories(run)["FAILOVER-01"]["steps"]
    assert (step["name"], step["status"], step.get("steps")) == ("istiod stopped", "passed", None)
    befores = [each for one in told(run, "container") for each in one.get("befores", [])]
    assert [(each["name"], each["steps"][0]["name"]) for each in befores] == [("set_up", "clusters are made")]


def test_results_are_those_of_the_last_run(run: pytest.Pytester) -> None:
    run.runpytest("--topology=multi-primary-samenet")
    run.runpytest("--topology=multi-primary-multinet", "-k", "TRUST-01", "--collect-only")
    assert len(list(told(run))) == 5
    run.runpytest("--topology=multi-primary-multinet", "-k", "TRUST-01")
    assert len(list(told(run))) == 1


def test_results_elsewhere_are_left_to_who_named_the_place(run: pytest.Pytester) -> None:
    for topology in ("multi-primary-samenet", "multi-primary-multinet"):
        run.runpytest(f"--topology={topology}", "-k", "TRUST-01", "--alluredir=elsewhere")
    assert len(list((run.path / "elsewhere").glob("*-result.json"))) == 2
    assert not (run.path / "reports" / "allure-results").exists()


def test_the_tests_of_meshproof_itself_are_not_in_the_report(run: pytest.Pytester) -> None:
    run.runpytest("--topology=multi-primary-samenet", "-k", "TRUST-01")
    run.mkdir("tests").joinpath("test_own.py").write_text("def test_own(topology):\n    pass")
    run.runpytest("--topology=multi-primary-samenet", "tests/test_own.py")
    assert [each["testCaseId"] for each in told(run)] == [stories(run)["TRUST-01"]["testCaseId"]]
    assert len(cases(run)) == 1


def test_what_a_run_lacks_is_an_error_of_no_test_and_the_verdict_lies_beside_it(run: pytest.Pytester) -> None:
    run.runpytest("--topology=multi-primary-samenet", "-k", "CONTROL-01")
    everything = list(told(run, "globals"))
    errors = [each["message"] for one in everything for each in one.get("errors", [])]
    attached = [each["name"] for one in everything for each in one.get("attachments", [])]
    assert errors == ["MISSING nothing was asserted about any mesh"]
    assert sorted(attached) == ["multi-primary-samenet.svg", "verdict.yaml"]


def cases(run: pytest.Pytester, path: str = "reports/junit.xml") -> list[ElementTree.Element]:
    return list(ElementTree.parse(run.path / path).iter("testcase"))


def test_junit_xml_lies_beside_the_verdict_and_names_claim_and_topology(run: pytest.Pytester) -> None:
    run.runpytest("--topology=all", "-k", "TRUST-01")
    properties = [{each.get("name"): each.get("value") for each in case.iter("property")} for case in cases(run)]
    assert len({each["topology"] for each in properties}) == 4
    assert [(each["claim"], each["sentence"], each["try"]) for each in properties] == [
        ("TRUST-01", "one root {everywhere}", "look there")
    ] * 4
    (failure,) = cases(run)[0].iter("failure")
    assert (failure.text or "").startswith(
        "TRUST-01 one root {everywhere}: 1 of 2 places are wrong\n  last seen   east"
    )


def test_junit_xml_goes_where_it_is_wanted(run: pytest.Pytester) -> None:
    run.runpytest("--topology=all", "-k", "TRUST-01", "--junitxml=mine.xml")
    assert len(cases(run, "mine.xml")) == 4
    assert not Path(run.path, "reports", "junit.xml").exists()
