"""What is made from the code must be as the code is."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

from meshproof.deadlines import BOUNDS, SAMPLES
from meshproof.report import statistics_doc
from meshproof.report.categories import categories, write_categories
from meshproof.report.claims_doc import ROOT
from meshproof.statistics import smallest_sample

FAILOVER = ROOT / "docs" / "failover.md"


def test_the_document_on_statistics_is_current() -> None:
    assert statistics_doc.DOCUMENT.read_text() == statistics_doc.current(), (
        "run python -m meshproof.report.statistics_doc"
    )


def test_samples_expose_the_skews_that_they_are_said_to() -> None:
    assert smallest_sample(0.5, 0.6) == SAMPLES.shares
    assert smallest_sample(0.8, 0.65) == SAMPLES.weights


def test_a_failure_is_in_the_category_of_its_family_only(tmp_path: Path) -> None:
    read = json.loads(write_categories(tmp_path).read_text())
    assert read == categories()
    text = "TRAFFIC-04 failing endpoints give way: 1 of 3\n  last seen   see TRUST-01 and DISCOVERY-07"
    fitting = [c["name"] for c in read if c["matchedStatuses"] == ["failed"] and re.fullmatch(c["traceRegex"], text)]
    assert fitting == ["TRAFFIC: what requests meet"]


def test_the_document_on_failover_has_all_bounds() -> None:
    text = FAILOVER.read_text()
    for field in fields(BOUNDS):
        bound = getattr(BOUNDS, field.name)
        row = f"| {field.name.replace('_', ' ')}: {bound.why} | {bound.seconds:g} s | {bound.whose} |"
        assert row in text, f"{FAILOVER.name} lacks this row:\n{row}"
