"""The part of docs/performance.md that is made of the verdicts of upgrades."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from meshproof.claims.results import FILE_NAME
from meshproof.core.errors import BadInput
from tools.benchmarks.upgrades import read_upgrades, section, section_of, with_section

STEPS = {
    "1. istiod of cluster1 to 1.31": {
        "took_s": 5.0,
        "healthy_s": 40.0,
        "requests": 100,
        "lost": 0,
        "lost_by_default": 3,
        "slowest_s": 0.05,
        "claims_s": 20.0,
    },
    "2. proxies of cluster1 to 1.31": {
        "took_s": 8.0,
        "requests": 50,
        "lost": 2,
        "lost_by_default": 0,
        "slowest_s": 1.5,
    },
}


def report(folder: Path, claims: object) -> Path:
    folder.mkdir()
    told = {"topologies": {"multi-primary-multinet": {"claims": claims}}}
    (folder / FILE_NAME).write_text(yaml.safe_dump(told))
    return folder


def test_the_figures_of_all_steps_are_added_up(tmp_path: Path) -> None:
    folder = report(tmp_path / "a", {"UPGRADE-04": {"result": "FAILED", "figures": STEPS}, "UPGRADE-01": {}})
    text = section(read_upgrades([folder]), "a machine")
    assert (
        "| multi-primary-multinet | in place | failed | 2 in 53 s | 1 in 20 s | 150 | 2 | 3 | 1.50 s "
        "| 45 s: istiod of cluster1 to 1.31 |" in text
    )
    assert "Measured on: a machine." in text


def test_a_run_without_an_upgrade_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="its run has no upgrade"):
        read_upgrades([report(tmp_path / "a", {"TRUST-01": {"result": "SUCCEEDED"}})])
    with pytest.raises(BadInput, match=r"nothing: verdict\.yaml: no such file"):
        read_upgrades([tmp_path / "nothing"])


def test_the_section_is_replaced_and_the_rest_stays() -> None:
    document = "# Performance\n\n## Clusters\n\nfast\n"
    one = with_section(document, "## Upgrades\n\nfirst\n")
    assert one == f"{document}\n## Upgrades\n\nfirst\n"
    assert with_section(one, "## Upgrades\n\nsecond\n") == f"{document}\n## Upgrades\n\nsecond\n"
    assert section_of(one) == "## Upgrades\n\nfirst\n"
    assert section_of(document) == ""
    assert with_section(document, "") == document
