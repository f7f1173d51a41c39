"""docs/sensitivity.md, from the report of a sensitivity run: `python -m tools.docs.calibration reports`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from meshproof import __version__
from meshproof.calibration.report import DATA, TEXT, read_report, render_summary
from meshproof.core.errors import BadInput
from meshproof.faults.catalogue import FAULTS
from tools.benchmarks.measure import machine

DOCUMENT: Final = Path(__file__).resolve().parents[2] / "docs" / "sensitivity.md"


def document(folder: Path) -> str:
    """The tables of the report in that folder, and their origin. Raises `BadInput` if there is none."""
    report = read_report(folder)
    if not report.outcomes and not report.passes:
        raise BadInput(f"folder {folder}", f"it has no {DATA}", "run pytest tests/sensitivity --topology=all first")
    moments = sorted([outcome.ran for outcome in report.outcomes] + [clean.ran for clean in report.passes])
    seconds = sum(outcome.inject_s + outcome.run_s + outcome.heal_s for outcome in report.outcomes)
    tables = render_summary(FAULTS, report).removeprefix("# Sensitivity\n")
    return f"""\
# What the claims detect

Made by `python -m tools.docs.calibration` from a sensitivity run with meshproof {__version__}; do not edit.
Measured from {moments[0][:16]} to {moments[-1][:16]} UTC on: {machine()}.
All mutants took {seconds / 60:.0f} minutes, each from the healthy mesh and back. The output of each of these runs is in
its `{TEXT}`; the terms are explained in [faults.md](faults.md).
{tables}"""


if __name__ == "__main__":
    try:
        DOCUMENT.write_text(document(Path(sys.argv[1] if len(sys.argv) > 1 else "reports")))
    except BadInput as problem:
        sys.exit(f"meshproof: {problem}")
    print(f"wrote {DOCUMENT}")
