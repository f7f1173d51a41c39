"""docs/claims.md, made from the claims that the suites declare and the faults that turn them red."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from meshproof.claims.claim import REGISTRY, Claim, Family, Registry
from meshproof.claims.references import linked
from meshproof.claims.suite_run import ROOT, import_suites
from meshproof.faults.catalogue import FAULTS
from meshproof.faults.fault import Fault

DOCUMENT: Final = ROOT / "docs" / "claims.md"
HEAD: Final = (
    "| code | claim | applies to | promised by | if it fails | mutants | settings that change it |",
    "|---|---|---|---|---|---|---|",
)


def current() -> str:
    """The text that docs/claims.md should have."""
    import_suites()
    return render(REGISTRY, FAULTS)


def render(registry: Registry, faults: Iterable[Fault]) -> str:
    """One table for each family that has claims, with the file of each claim and the mutants that must turn it red."""
    by_family: dict[Family, list[Claim]] = {}
    for record in registry:
        by_family.setdefault(record.family, []).append(record)
    mutants: dict[str, list[str]] = {}
    for fault in faults:
        for code in fault.kills:
            mutants.setdefault(code, []).append(fault.id)
    lines = [
        "# Claims",
        "",
        "Generated from the code; do not edit. Each row is one sentence that must hold, where it is promised, to which",
        "topologies it applies, and what to try when it does not hold. ⚡ marks claims that break or change something",
        "to prove it; on clusters that meshproof did not create they need `--allow-disruptive`. 🔑 marks claims that",
        "make credentials of the mesh for themselves, good for ten minutes; there they need `--allow-credentials`.",
        "A code leads to the file that proves it; mutants are the faults that must turn it red",
        "([faults.md](faults.md)). The last column has the legal settings of Istio and Kubernetes that change what a",
        "claim expects or examines, and what becomes of it. A claim has its code as its address: `claims.md#TRUST-03`.",
    ]
    for family in Family:
        if family in by_family:
            lines += ["", f"## {family}", ""]
            lines += HEAD
            lines += [_row(each, registry.place_of(each), mutants.get(each.code, ())) for each in by_family[family]]
    return "\n".join(lines) + "\n"


def _row(record: Claim, place: str, mutants: Iterable[str]) -> str:
    needs = " and ".join(need.name for need in record.needs) + (f", with `{record.option}`" if record.option else "")
    mark = (" ⚡" if record.disruptive else "") + (" 🔑" if record.credentials else "")
    file = f"../{place.rpartition('.')[0].replace('.', '/')}.py"
    code = f'[{record.code}]({file}){mark}<a id="{record.code}"></a>'
    cells = (code, record.sentence, needs, linked(record.promised_by), record.hint, ", ".join(mutants), record.settings)
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    DOCUMENT.write_text(current())
    print(f"wrote {DOCUMENT}")
