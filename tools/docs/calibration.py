"""docs/sensitivity.md and docs/specificity.md, from the reports of calibration runs:
`python -m tools.docs.calibration reports`.

A document whose run is not in the folder stays as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from meshproof import __version__
from meshproof.calibration import specificity_report
from meshproof.calibration.legal_meshes import LEGAL_MESHES
from meshproof.calibration.report import DATA, TEXT, read_report, render_summary
from meshproof.core.errors import BadInput
from meshproof.faults.catalogue import FAULTS
from tools.benchmarks.measure import machine

DOCS: Final = Path(__file__).resolve().parents[2] / "docs"


def document(folder: Path) -> str:
    """The tables of the sensitivity report in that folder, and their origin. Raises `BadInput` if there is none."""
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


def specificity_document(folder: Path) -> str:
    """The tables of the specificity report in that folder, and their origin. Raises `BadInput` if there is none."""
    report = specificity_report.read_specificity(folder)
    if not report.outcomes and not report.passes:
        raise BadInput(
            f"folder {folder}",
            f"it has no {specificity_report.DATA}",
            "run pytest tests/specificity --topology=all first",
        )
    moments = sorted([outcome.ran for outcome in report.outcomes] + [clean.ran for clean in report.passes])
    seconds = sum(outcome.apply_s + outcome.run_s + outcome.heal_s for outcome in report.outcomes)
    tables = specificity_report.render_specificity(LEGAL_MESHES, report).removeprefix(specificity_report.TITLE)
    return f"""\
# On which meshes the claims hold

Made by `python -m tools.docs.calibration` from a specificity run with meshproof {__version__}; do not edit.
Measured from {moments[0][:16]} to {moments[-1][:16]} UTC on: {machine()}.
All variants took {seconds / 60:.0f} minutes without the mutants on top, each from the healthy mesh and back. The
output of each of these runs is in its `{specificity_report.TEXT}`; the terms are explained in
[variants.md](variants.md).
{tables}"""


_DOCUMENTS: Final[Mapping[str, Callable[[Path], str]]] = {
    "sensitivity.md": document,
    "specificity.md": specificity_document,
}


def main(folder: Path) -> None:
    """Write the documents whose runs are in `folder`. Exits with an error if there is none of them."""
    missing = []
    for name, made_from in _DOCUMENTS.items():
        try:
            (DOCS / name).write_text(made_from(folder))
            print(f"wrote {DOCS / name}")
        except BadInput as problem:
            missing.append(str(problem))
    if len(missing) == len(_DOCUMENTS):
        sys.exit("\n".join(f"meshproof: {text}" for text in missing))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "reports"))
