"""docs/reliability.md from the verdicts of runs: `python -m tools.docs.reliability FOLDER|VERDICT…`.

What is known already is in docs/reliability.yaml; new rounds are added to it. The causes of reds are written there by
hand.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from meshproof.claims.suite_run import ROOT
from meshproof.core.errors import BadInput
from meshproof.report.reliability import (
    Round,
    merge,
    read_rounds,
    reliability_tables,
    rounds_in,
    verdicts_below,
    write_rounds,
)

DATA: Final = ROOT / "docs" / "reliability.yaml"
DOCUMENT: Final = ROOT / "docs" / "reliability.md"


def document(rounds: Sequence[Round]) -> str:
    """The text that docs/reliability.md should have."""
    begin, end = rounds[0].started[:10], rounds[-1].started[:10]
    return f"""\
# Reliability

Made by `python -m tools.docs.reliability` from [reliability.yaml](reliability.yaml); do not edit.

How often claims are red on meshes without a fault. A round is one run of all claims on one topology, from the start of
its clusters to their removal; `meshproof soak` makes them. {len(rounds)} rounds from {begin} to {end}, on two cores.
Every red is listed with its cause: a defect of meshproof is mended, one of Istio is named.

{reliability_tables(rounds)}
"""


def main(paths: Sequence[str]) -> None:
    new = [each for path in paths for file in verdicts_below(Path(path)) for each in rounds_in(file)]
    rounds = merge(read_rounds(DATA), new)
    if not rounds:
        raise BadInput("no rounds", f"{DATA.name} has none", "name the report folder of `meshproof soak`")
    write_rounds(DATA, rounds)
    DOCUMENT.write_text(document(rounds))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except BadInput as problem:
        sys.exit(f"meshproof: {problem}")
    print(f"wrote {DOCUMENT}")
