"""Judging variants, and the report, without a mesh."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from meshproof.calibration.outcome import CleanPass, Fate, judge_mutant
from meshproof.calibration.specificity import VariantOutcome, Verdict, judge_variant, without_known_red
from meshproof.calibration.specificity_report import SpecificityReport, read_specificity, write_specificity
from meshproof.calibration.variant_trial import attached
from meshproof.calibration.variants.legal_mesh import Skip
from meshproof.calibration.variants.variant import Variant
from meshproof.claims.results import Result
from meshproof.claims.suite_run import SuiteRun
from meshproof.core.errors import BadInput, Broken
from meshproof.faults.fault import Fault
from tests.fakes import mesh_of
from tools.docs.calibration import specificity_document

OK, FAILED, BROKEN, NA, SKIPPED = (
    Result.SUCCEEDED,
    Result.FAILED,
    Result.BROKEN,
    Result.NOT_APPLICABLE,
    Result.SKIPPED,
)

VARIANT = Variant(
    id="only-443",
    sentence="no port 80",
    legal="istio.io, Secure Gateways",
    apply=lambda editor: None,
    skips=(Skip(codes=("TRAFFIC-01",), reason="has no port 80"),),
    still_kills=("S1",),
)
USUAL = {"TRUST-01": OK, "TRAFFIC-01": OK, "GATEWAYS-01": NA}


@pytest.mark.parametrize(
    ("results", "reasons", "verdict", "explanation"),
    [
        ({"TRUST-01": OK, "TRAFFIC-01": OK, "GATEWAYS-01": NA}, {}, Verdict.GREEN, ""),
        (
            {"TRUST-01": OK, "TRAFFIC-01": SKIPPED, "GATEWAYS-01": NA},
            {"TRAFFIC-01": "Service a/b has no port 80"},
            Verdict.GREEN,
            "",
        ),
        (
            {"TRUST-01": OK, "TRAFFIC-01": SKIPPED, "GATEWAYS-01": NA},
            {"TRAFFIC-01": "it is Tuesday"},
            Verdict.SKIPPED,
            "TRAFFIC-01 should not be SKIPPED: it is Tuesday",
        ),
        (
            {"TRUST-01": NA, "TRAFFIC-01": OK, "GATEWAYS-01": NA},
            {"TRUST-01": "has no port 80"},
            Verdict.SKIPPED,
            "TRUST-01 should not be NOT_APPLICABLE: has no port 80",
        ),
        (
            {"TRUST-01": FAILED, "TRAFFIC-01": BROKEN, "GATEWAYS-01": NA},
            {"TRUST-01": "two roots", "TRAFFIC-01": "no pod"},
            Verdict.RED,
            "TRAFFIC-01 is BROKEN (no pod); TRUST-01 is FAILED (two roots)",
        ),
        (
            {"TRUST-01": OK, "GATEWAYS-01": NA},
            {},
            Verdict.RED,
            "TRAFFIC-01 is missing: the run has no result for it",
        ),
        (
            {"TRUST-01": SKIPPED, "TRAFFIC-01": SKIPPED, "GATEWAYS-01": NA},
            {"TRUST-01": "?", "TRAFFIC-01": "has no port 80"},
            Verdict.RED,
            "no claim held; TRUST-01 should not be SKIPPED: ?",
        ),
    ],
)
def test_what_counts_as_green(
    results: dict[str, Result], reasons: dict[str, str], verdict: Verdict, explanation: str
) -> None:
    outcome = judge_variant(VARIANT, "m", SuiteRun(results=results, reasons=reasons), USUAL)
    assert (outcome.verdict, outcome.explanation) == (verdict, explanation)


def test_a_run_that_did_not_finish_is_not_green() -> None:
    outcome = judge_variant(VARIANT, "m", SuiteRun(results=USUAL, unfinished="images: none"), USUAL)
    assert (outcome.verdict, outcome.reason) == (Verdict.TROUBLE, "images: none")
    assert not outcome.verdict.good


def test_a_claim_that_applies_only_with_the_variant_is_judged_too() -> None:
    outcome = judge_variant(VARIANT, "m", SuiteRun(results=USUAL | {"GATEWAYS-01": FAILED}), USUAL)
    assert outcome.verdict is Verdict.RED


def test_a_mutant_on_top_is_judged_by_the_claims_that_the_variant_leaves() -> None:
    fault = Fault(
        id="S1",
        sentence="no remote secret",
        seen="local answers",
        source="life",
        kills=("DISCOVERY-01", "TRAFFIC-01"),
        inject=lambda editor: None,
    )
    run = SuiteRun(
        results={"DISCOVERY-01": FAILED, "TRAFFIC-01": SKIPPED, "TRUST-06": FAILED, "TRUST-01": OK},
        reasons={"TRAFFIC-01": "has no port 80"},
    )
    judged = judge_mutant(fault, "m", without_known_red(run, {"TRUST-06": "red before"}, VARIANT))
    assert judged.fate is Fate.KILLED
    assert judge_mutant(fault, "m", without_known_red(run, {}, VARIANT)).fate is Fate.SURVIVED  # TRUST-06 is noise
    blind = SuiteRun(results={"DISCOVERY-01": OK, "TRAFFIC-01": SKIPPED}, reasons={"TRAFFIC-01": "has no port 80"})
    assert judge_mutant(fault, "m", without_known_red(blind, {}, VARIANT)).fate is Fate.SURVIVED


def test_the_suites_run_as_on_clusters_of_somebody_else() -> None:
    assert attached(mesh_of("multi-primary-samenet")) == (
        "--kubeconfig=/nonexistent",
        "--context=cluster1=cluster1",
        "--context=cluster2=cluster2",
        "--app-image=app",
        "--client-image=client",
        "--istioctl=/bin/false",
        "--allow-credentials",
    )


GREEN = VariantOutcome(
    variant="only-443",
    topology="multi-primary-samenet",
    verdict=Verdict.GREEN,
    held=40,
    skipped={"TRAFFIC-01": "Service a/b has no port 80"},
    mutants={"S1": "killed"},
    apply_s=1.0,
    run_s=40.0,
    heal_s=2.0,
    ran="2026-01-31T12:00+00:00",
)
ABSENT = VariantOutcome(
    variant="only-443", topology="primary-remote-samenet", verdict=Verdict.NOT_HERE, reason="there is no such thing"
)


def test_the_report(tmp_path: Path) -> None:
    text, data = write_specificity(tmp_path, [VARIANT], SpecificityReport(outcomes=[GREEN, ABSENT]))
    page = "[Secure Gateways](https://istio.io/latest/docs/tasks/traffic-management/ingress/secure-ingress/)"
    assert text.read_text() == (
        "# Specificity\n\n"
        "Each row is a legal mesh that differs from ours. *Green*: no claim failed or broke, and none was skipped but\n"
        "for the reason in the record. *Still kills*: faults that were detected on top of it.\n\n"
        "1 green, 1 not available here\n\n"
        "| variant | what differs | legal because | skips | still kills | multi-primary-samenet | "
        "primary-remote-samenet |\n"
        "|---|---|---|---|---|---|---|\n"
        f"| only-443 | no port 80 | istio.io, {page} | TRAFFIC-01: has no port 80 | S1 | green 43 s | "
        "not available here |\n\n"
        "## only-443 on multi-primary-samenet: green\n\n"
        "Applied in 1.0 s, verified in 40.0 s, undone in 2.0 s; 2026-01-31T12:00+00:00 UTC. 40 claims held.\n\n"
        "- TRAFFIC-01 was skipped: Service a/b has no port 80\n"
        "- mutant S1: killed\n\n"
        "## Not available here\n\n"
        "- only-443 on primary-remote-samenet: there is no such thing\n"
    )
    read = json.loads(data.read_text())
    assert read["schema"] == "meshproof/specificity/1"
    assert read["counts"] == {"green": 1, "not available here": 1}


def test_the_report_of_an_earlier_run_is_read(tmp_path: Path) -> None:
    passes = [CleanPass.of("multi-primary-samenet", SuiteRun(results={"TRUST-01": OK}, seconds=18.04))]
    report = SpecificityReport(outcomes=[GREEN, ABSENT], passes=passes)
    write_specificity(tmp_path, [VARIANT], report)
    assert read_specificity(tmp_path) == report
    assert read_specificity(tmp_path / "elsewhere") == SpecificityReport()
    (tmp_path / "specificity.json").write_text('{"schema": "other"}')
    with pytest.raises(Broken, match="its schema is other, not meshproof/specificity/1"):
        read_specificity(tmp_path)


def test_the_document_needs_a_run(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="run pytest tests/specificity --topology=all first"):
        specificity_document(tmp_path)
    write_specificity(tmp_path, [VARIANT], SpecificityReport(outcomes=[GREEN]))
    text = specificity_document(tmp_path)
    assert text.startswith("# On which meshes the claims hold\n")
    assert "| only-443 | the ingress gateways have no port 80 |" in text  # as the catalogue has it now
