"""What is made from the code must be as the code is."""

from __future__ import annotations

import re
from dataclasses import fields

from meshproof.claims.suite_run import ROOT
from meshproof.core.deadlines import BOUNDS, SAMPLES
from meshproof.core.statistics import smallest_sample
from meshproof.upgrade.precheck.check import RULES
from tools.docs import statistics as statistics_doc

FAILOVER = ROOT / "docs" / "failover.md"


def test_the_document_on_statistics_is_current() -> None:
    assert statistics_doc.DOCUMENT.read_text() == statistics_doc.current(), "run python -m tools.docs.statistics"


def test_samples_expose_the_skews_that_they_are_said_to() -> None:
    assert smallest_sample(0.5, 0.6) == SAMPLES.shares
    assert smallest_sample(0.8, 0.65) == SAMPLES.weights


def test_the_document_on_failover_has_all_bounds() -> None:
    text = FAILOVER.read_text()
    for field in fields(BOUNDS):
        bound = getattr(BOUNDS, field.name)
        row = f"| {field.name.replace('_', ' ')}: {bound.why} | {bound.seconds:g} s | {bound.origin} |"
        assert row in text, f"{FAILOVER.name} lacks this row:\n{row}"


def test_the_document_on_upgrades_has_all_rules() -> None:
    text = (ROOT / "docs" / "upgrade.md").read_text()
    assert [f"| {rule.id} | {rule.sentence} | {rule.severity} |" for rule in RULES] == re.findall(
        r"^\| [A-Z0-9]+-\d\d \| .*", text, re.MULTILINE
    )
