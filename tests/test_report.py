"""Texts and files of a report. The texts are golden: they are what people read when something is wrong."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from meshproof.claims.causes import because
from meshproof.claims.claim import REMOTES, Claim
from meshproof.claims.evidence import Evidence
from meshproof.claims.failure import in_one_line, render_broken, render_failure
from meshproof.claims.required import FLOOR, shortfalls
from meshproof.claims.results import ClaimResult, Ledger, Result
from meshproof.clients.kubernetes.client import Kube
from meshproof.core.errors import Broken
from meshproof.core.topology import load_topology
from meshproof.report.claim_links import claim_url
from meshproof.report.summary import outcome_line, summary_lines
from meshproof.report.verdict import RunFacts, requests_line, verdict, write_verdict
from tools.docs.claims import DOCUMENT, current

CLAIM = Claim(
    code="TRUST-03",
    sentence="workloads are signed by their own control plane",
    promised_by="istio.io, Plug in CA Certificates",
    hint="restart istiod, then the pods",
    needs=(),
    disruptive=False,
)
TOPOLOGY = load_topology("primary-remote-multinet")

GOLDEN_FAILURE = """\
TRUST-03 workloads are signed by their own control plane: 1 of 8 certificates are wrong
  last seen   cluster2 ns/pod: the issuer is not there
  mesh        primary-remote-multinet: cluster1(primary, network1) cluster2(remote of cluster1, network2)
  beneath     cluster1/kubelet exited with 1
  look at     reports/evidence/primary-remote-multinet/TRUST-03/issuers.json
  promised    istio.io, Plug in CA Certificates
  try         restart istiod, then the pods
  again       pytest --topology=primary-remote-multinet -k TRUST-03 --keep"""

GOLDEN_BROKEN = """\
TRUST-03 BROKEN, so nothing is known about: workloads are signed by their own control plane
  exec in ns/pod on cluster1: the connection was cut
    repair: check the kubelet
  also        and: exec in ns/other on cluster1: the connection was cut
  mesh        primary-remote-multinet: cluster1(primary, network1) cluster2(remote of cluster1, network2)
  again       pytest --topology=primary-remote-multinet -k TRUST-03 --keep"""


def result(code: str, outcome: Result, topology: str = TOPOLOGY.name, reason: str = "") -> ClaimResult:
    return ClaimResult(
        topology=topology,
        code=code,
        sentence="it holds",
        hint="look there",
        result=outcome,
        reason=reason,
        duration_s=0.126,
    )


def ledger_of(*results: ClaimResult) -> Ledger:
    ledger = Ledger()
    for each in results:
        ledger.add(each)
    return ledger


def test_a_failure_reads_like_this() -> None:
    text = render_failure(
        CLAIM,
        TOPOLOGY,
        "1 of 8 certificates are wrong\n  last seen   cluster2 ns/pod: the issuer is not there",
        evidence=[Path("reports/evidence/primary-remote-multinet/TRUST-03/issuers.json")],
        beneath=["cluster1/kubelet exited with 1"],
    )
    assert text == GOLDEN_FAILURE


def test_a_broken_claim_reads_like_this() -> None:
    problem = Broken("exec in ns/pod on cluster1", "the connection was cut", "check the kubelet")
    notes = ["and: exec in ns/other on cluster1: the connection was cut"]
    assert render_broken(CLAIM, TOPOLOGY, str(problem), notes=notes) == GOLDEN_BROKEN


def test_lists_show_what_was_seen_and_what_to_try_in_one_line() -> None:
    assert in_one_line(GOLDEN_FAILURE) == (
        "TRUST-03 workloads are signed by their own control plane: 1 of 8 certificates are wrong"
        " ▸ last seen cluster2 ns/pod: the issuer is not there ▸ try restart istiod, then the pods"
    )
    assert in_one_line(GOLDEN_BROKEN) == (
        "TRUST-03 BROKEN, so nothing is known about: workloads are signed by their own control plane"
        " ▸ exec in ns/pod on cluster1: the connection was cut ▸ repair: check the kubelet"
    )
    long = render_failure(CLAIM, TOPOLOGY, "no\n  last seen   " + "far too much " * 20)
    assert " ▸ last seen far too" in in_one_line(long)
    assert " far … ▸ try restart" in in_one_line(long)


GITHUB = {"GITHUB_SERVER_URL": "https://forge", "GITHUB_REPOSITORY": "a/b", "GITHUB_SHA": "c0ffee"}
GITLAB = {"CI_PROJECT_URL": "https://forge/a/b", "CI_COMMIT_SHA": "c0ffee"}


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        (GITHUB, "https://forge/a/b/blob/c0ffee/docs/claims.md#TRUST-03"),
        (GITLAB, "https://forge/a/b/-/blob/c0ffee/docs/claims.md#TRUST-03"),
        ({"MESHPROOF_CLAIMS_URL": "https://mine/c.md", **GITHUB}, "https://mine/c.md#TRUST-03"),
        ({"CI": "true", "GITHUB_REPOSITORY": "a/b", "CI_COMMIT_SHA": "c0ffee"}, None),
    ],
)
def test_a_report_links_to_the_claim(environment: dict[str, str], url: str | None) -> None:
    assert claim_url("TRUST-03", environment) == url
    assert '<a id="TRUST-03"></a>' in DOCUMENT.read_text()


def test_the_worst_phase_of_a_test_counts() -> None:
    ledger = ledger_of(result("TRUST-01", Result.SUCCEEDED), result("TRUST-01", Result.BROKEN, reason="teardown"))
    (only,) = ledger.of(TOPOLOGY.name)
    assert (only.result, only.reason, round(only.duration_s, 3)) == (Result.BROKEN, "teardown", 0.252)


def test_the_verdict_has_this_schema(tmp_path: Path) -> None:
    facts = RunFacts(
        started=datetime(2026, 1, 31, 12, tzinfo=UTC),
        provider="lab",
        istio="1.31.0",
        data_plane="Envoy",
        kubernetes={"cluster1": "v1.36.1"},
        rebuilt=["istiod of cluster1 stopped: a stale endpoint"],
        asked_from_pods=["the gateway of west"],
    )
    kube = Kube(tmp_path, "one", name="cluster1")
    for verb in ("GET", "EXEC", "GET"):
        kube._note(verb)
    facts.count([kube, kube])
    assert requests_line(facts.kubes) == "API requests: 3 (cluster1 3)"
    ledger = ledger_of(
        replace(result("TRUST-01", Result.SUCCEEDED), figures={"a fault": {"lost": 0, "detect_s": 1.5}}),
        result("CONTROL-01", Result.NOT_APPLICABLE, reason="no remote"),
    )
    data = verdict(facts, ledger, missing=[], ended=datetime(2026, 1, 31, 12, 1, tzinfo=UTC))
    read = yaml.safe_load(write_verdict(tmp_path / "new", data).read_text())
    none = {"SUCCEEDED": 1, "NOT_APPLICABLE": 1, "SKIPPED": 0, "FAILED": 0, "BROKEN": 0}
    assert read == {
        "schema": "meshproof/verdict/1",
        "go": True,
        "outcome": "GO",
        "meshproof": read["meshproof"],
        "started": "2026-01-31T12:00:00+00:00",
        "duration_s": 60.0,
        "provider": "lab",
        "istio": "1.31.0",
        "data_plane": "Envoy",
        "kubernetes": {"cluster1": "v1.36.1"},
        "asked_from_pods": ["the gateway of west"],
        "api_requests": {"total": 3, "clusters": {"cluster1": 3}, "verbs": {"EXEC": 1, "GET": 2}},
        "counts": none,
        "missing": [],
        "causes": [],
        "rebuilt": ["istiod of cluster1 stopped: a stale endpoint"],
        "topologies": {
            TOPOLOGY.name: {
                "counts": none,
                "claims": {
                    "CONTROL-01": {"result": "NOT_APPLICABLE", "reason": "no remote", "duration_s": 0.13},
                    "TRUST-01": {
                        "result": "SUCCEEDED",
                        "duration_s": 0.13,
                        "figures": {"a fault": {"lost": 0, "detect_s": 1.5}},
                    },
                },
            }
        },
    }


@pytest.mark.parametrize("bad", [Result.FAILED, Result.BROKEN])
def test_a_bad_claim_and_a_missing_one_are_a_no_go(bad: Result) -> None:
    facts = RunFacts(started=datetime.now(UTC))
    assert not verdict(facts, ledger_of(result("TRUST-01", bad)), missing=[], ended=datetime.now(UTC))["go"]
    good = ledger_of(result("TRUST-01", Result.SUCCEEDED))
    assert not verdict(facts, good, missing=["TRUST-02"], ended=datetime.now(UTC))["go"]


def test_failures_come_first_with_what_to_try_and_then_the_table() -> None:
    ledger = ledger_of(
        result("TRUST-01", Result.SUCCEEDED),
        result("TRUST-02", Result.FAILED, reason="2 of 9 places are wrong"),
        result("CONTROL-01", Result.NOT_APPLICABLE, "multi-primary-samenet", "every cluster is a primary"),
        result("TRUST-01", Result.BROKEN, "multi-primary-samenet", "exec was cut"),
        replace(result("TRUST-03", Result.SUCCEEDED), notes=("mind the gap",)),
        replace(result("TRUST-04", Result.SUCCEEDED), notes=("mind the gap", "and the door")),
    )
    assert summary_lines(ledger, ["one thing"]) == [
        "FAILED  TRUST-02 on primary-remote-multinet: 2 of 9 places are wrong",
        "        try look there",
        "BROKEN  TRUST-01 on multi-primary-samenet: exec was cut",
        "NOTE    primary-remote-multinet: mind the gap (TRUST-03, TRUST-04)",
        "NOTE    primary-remote-multinet: and the door (TRUST-04)",
        "N/A     CONTROL-01 on multi-primary-samenet: every cluster is a primary",
        "MISSING one thing",
        "",
        "topology                 trust          control",
        "primary-remote-multinet  3 ok 1 failed  -",
        "multi-primary-samenet    1 broken       -",
    ]


NO_APP = """\
Deployment meshproof-app/mockshop-v1 on cluster1: not ready after 60 s
  last seen   0 of 1 pods ready: container mockshop: ErrImagePull
  repair: name an image that the nodes can pull: --app-image=IMAGE"""
TWO_ROOTS = "the test bed: no endpoint of cluster2 is known in cluster1"


def red(code: str, outcome: Result, cause: str, topology: str = TOPOLOGY.name) -> ClaimResult:
    return replace(result(code, outcome, topology, reason=cause.splitlines()[0]), cause=cause)


ONE_CAUSE = [
    "BROKEN  13 claims for one cause, on primary-remote-multinet:",
    "        Deployment meshproof-app/mockshop-v1 on cluster1: not ready after 60 s",
    "          last seen   0 of 1 pods ready: container mockshop: ErrImagePull",
    "        repair: name an image that the nodes can pull: --app-image=IMAGE",
    "        claims: DISCOVERY-02, DISCOVERY-04, GATEWAYS-01 to GATEWAYS-09, TRUST-01, TRUST-02",
    "FAILED  2 claims for one cause, on primary-remote-multinet:",
    "        the test bed: no endpoint of cluster2 is known in cluster1",
    "        claims: TRAFFIC-01, TRAFFIC-02",
    "FAILED  CONTROL-02 on primary-remote-multinet: refused",
    "        try look there",
    "SKIPPED FAILOVER-01 to FAILOVER-16 on primary-remote-multinet: breaking clusters that meshproof did not create: "
    "not",
    "        allowed by the options (--allow-disruptive)",
]


def test_a_cause_of_many_claims_reads_like_this() -> None:
    """Once, before what only one claim says, however late its claims came."""
    broken = [f"GATEWAYS-{number:02}" for number in range(1, 10)]
    withheld = (
        "breaking clusters that meshproof did not create: not allowed by the options\n  repair: --allow-disruptive"
    )
    ledger = ledger_of(
        red("CONTROL-02", Result.FAILED, "refused"),
        *(red(code, Result.FAILED, TWO_ROOTS) for code in ("TRAFFIC-01", "TRAFFIC-02")),
        *(
            red(code, Result.BROKEN, NO_APP)
            for code in ("TRUST-01", "TRUST-02", "DISCOVERY-02", "DISCOVERY-04", *broken)
        ),
        *(red(f"FAILOVER-{number:02}", Result.SKIPPED, withheld) for number in range(1, 17)),
    )
    assert summary_lines(ledger, [])[: len(ONE_CAUSE)] == ONE_CAUSE
    assert outcome_line(ledger, []) == (
        "NO-GO: 3 claims do not hold, 13 are BROKEN (nothing is known about them), 16 were not asked"
    )
    plain = verdict(RunFacts(started=datetime.now(UTC)), ledger, missing=[], ended=datetime.now(UTC))
    assert (plain["go"], plain["outcome"]) == (False, "NO-GO")
    assert [(cause["result"], len(cause["claims"])) for cause in plain["causes"]] == [("BROKEN", 13), ("FAILED", 2)]
    assert plain["causes"][0]["repair"] == "name an image that the nodes can pull: --app-image=IMAGE"


def test_what_several_claims_wanted_when_they_met_one_cause_is_listed() -> None:
    def of(number: int) -> ClaimResult:
        problem = Broken(f"exec in istio-system/istiod: GET /debug/{number}", "could not start: refused", "see the pod")
        code = f"TRUST-{number:02}"
        return replace(red(code, Result.BROKEN, str(problem)), because=because(problem))

    assert summary_lines(ledger_of(*map(of, range(1, 6))), [])[:5] == [
        "BROKEN  5 claims for one cause, on primary-remote-multinet:",
        "        could not start: refused",
        "        met in: exec in istio-system/istiod: GET /debug/1; exec in istio-system/istiod: GET /debug/2; exec in",
        "          istio-system/istiod: GET /debug/3 and 2 more",
        "        repair: see the pod",
    ]


def test_one_claim_in_several_meshes_fails_for_causes_of_its_own_and_is_broken_for_one() -> None:
    other = "multi-primary-samenet"
    failed = ledger_of(*(red("TRUST-01", Result.FAILED, "two roots", name) for name in (TOPOLOGY.name, other)))
    assert [line for line in summary_lines(failed, []) if "for one cause" in line] == []
    broken = ledger_of(*(red("TRUST-01", Result.BROKEN, "no lab", name) for name in (TOPOLOGY.name, other)))
    assert summary_lines(broken, [])[0] == (
        "BROKEN  2 claims for one cause, on primary-remote-multinet, multi-primary-samenet:"
    )


@pytest.mark.parametrize(
    ("results", "missing", "line"),
    [
        ([Result.SUCCEEDED], [], "GO: 1 claim holds"),
        ([Result.SUCCEEDED, Result.SKIPPED], [], "GO: 1 claim holds, 1 was not asked"),
        ([Result.SUCCEEDED], ["x"], "NOT KNOWN: 1 claim holds, the run lacks what is listed as MISSING"),
        ([Result.SUCCEEDED, Result.BROKEN], [], "NOT KNOWN: 1 claim is BROKEN (nothing is known about it), 1 holds"),
        ([Result.BROKEN, Result.FAILED], [], "NO-GO: 1 claim does not hold, 1 is BROKEN (nothing is known about it)"),
        ([Result.SKIPPED], [], "NOT KNOWN: 1 claim was not asked"),
        ([Result.NOT_APPLICABLE], [], "NOT KNOWN: no claim applies"),
    ],
)
def test_only_what_was_asked_and_holds_is_a_go(results: list[Result], missing: list[str], line: str) -> None:
    ledger = ledger_of(*(result(f"TRUST-{number:02}", each) for number, each in enumerate(results, start=1)))
    assert outcome_line(ledger, missing) == line


def test_a_family_of_which_nothing_was_asked_is_missing_unless_the_user_has_not_allowed_it() -> None:
    ledger = ledger_of(
        result("TRUST-01", Result.SUCCEEDED),
        result("TRAFFIC-01", Result.SKIPPED, reason="no ingress gateway"),
        result("TRAFFIC-02", Result.SKIPPED, reason="no pods"),
        result("FAILOVER-01", Result.SKIPPED, reason="breaking clusters: not allowed by the options"),
        result("CONTROL-01", Result.NOT_APPLICABLE, reason="no remote"),
        result("GATEWAYS-01", Result.SKIPPED, reason="no ingress gateway"),
        result("GATEWAYS-02", Result.SUCCEEDED),
    )
    assert shortfalls(ledger, [TOPOLOGY], [], whole=False) == [
        "primary-remote-multinet: nothing was asserted about TRAFFIC, 2 skipped: no ingress gateway; no pods"
    ]


def test_notes_are_in_the_verdict_and_survive_the_way_from_a_worker() -> None:
    noted = replace(result("TRUST-01", Result.SUCCEEDED), notes=("mind the gap",))
    assert ClaimResult.from_plain(noted.as_plain()) == noted
    facts = RunFacts(started=datetime.now(UTC))
    told = verdict(facts, ledger_of(noted, result("TRUST-02", Result.SUCCEEDED)), missing=[], ended=datetime.now(UTC))
    claims = told["topologies"]["primary-remote-multinet"]["claims"]
    assert {code: row.get("notes") for code, row in claims.items()} == {"TRUST-01": ["mind the gap"], "TRUST-02": None}


def test_a_run_that_asserted_nothing_is_not_green() -> None:
    skipped = ledger_of(result("TRUST-01", Result.SKIPPED))
    assert shortfalls(skipped, [TOPOLOGY], [], whole=False) == ["nothing was asserted about any mesh"]


def test_a_whole_run_must_have_every_claim_of_the_floor_that_applies() -> None:
    topology = load_topology("multi-primary-samenet")
    remote_only = Claim(code="CONTROL-01", sentence="s", promised_by="p", hint="h", needs=(REMOTES,), disruptive=False)
    there = [code for code in FLOOR if code not in ("CONTROL-01", "TRUST-05")]
    ledger = ledger_of(*(result(code, Result.SUCCEEDED, topology.name) for code in there))
    expected = ["multi-primary-samenet: 1 claims are missing: TRUST-05"]
    assert shortfalls(ledger, [topology], [remote_only], whole=True) == expected
    assert shortfalls(ledger, [topology], [remote_only], whole=False) == []


def test_evidence_is_written_as_text_or_json(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path / "e")
    evidence.attach("rows", "a\nb")
    evidence.attach("counts", {"b": 1, "a": 2})
    evidence.attach("history.csv", "time")
    evidence.attach("east-198.18.10.2-15443", [])
    names = ["rows.txt", "counts.json", "history.csv", "east-198.18.10.2-15443.json"]
    assert [path.name for path in evidence.files] == names
    assert evidence.files[1].read_text() == '{\n  "a": 2,\n  "b": 1\n}'
    assert not (Evidence(tmp_path / "e").folder / "rows.txt").exists()


@pytest.mark.parametrize(
    "secret", ["-----BEGIN RSA PRIVATE KEY-----", "client-key-data: abc", "token: abc", "Bearer eyJhbGciOiJSUzI1NiJ9"]
)
def test_secrets_do_not_get_into_evidence(tmp_path: Path, secret: str) -> None:
    with pytest.raises(Broken, match="looks like a key, a token or a kubeconfig"):
        Evidence(tmp_path).attach("secret", {"text": secret})
    assert not list(tmp_path.glob("*"))


def test_the_document_of_claims_is_up_to_date() -> None:
    assert DOCUMENT.read_text() == current(), "run: python -m tools.docs.claims"


def test_every_claim_of_the_floor_is_declared() -> None:
    text = current()
    assert sorted(re.findall(r"^\| \[([A-Z]+-\d\d)\]", text, re.MULTILINE)) == sorted(FLOOR)
