"""Running the suites as a user would, in a process of their own, and reading their results."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import yaml

from meshproof.claims.claim import CODE
from meshproof.claims.results import FILE_NAME, RED, Result
from meshproof.core.children import run_child
from meshproof.core.errors import BadInput, Broken
from meshproof.core.option_names import UPGRADE_TO_FLAG

ROOT: Final = (Path(__file__).parents[1] / "pytest_root" / "suites").resolve().parent
"""The folder with `suites/`, `fixtures/`, `conftest.py` and `pytest.ini`: the checkout, or in an installed package the
folder to which they were copied (docs/architecture.md)."""
SUITES: Final = ("trust", "discovery", "gateways", "controlplane", "traffic")
"""Those that prove a mesh without breaking it."""
LIMIT_S: Final = 900.0
REHEARSALS_S: Final = 3600.0


def run_suites(
    root: Path,
    topology: str,
    lab_name: str,
    report_dir: Path,
    *,
    drills: Sequence[str] = (),
    rehearsals: Sequence[str] = (),
    upgrade_to: str = "",
    where: Sequence[str] = (),
) -> SuiteRun:
    """Verify the mesh of a running lab as it is, by all claims that do not break it, or by these `drills`, or by these
    claims about an upgrade to `upgrade_to`. `where` are the options that lead to the clusters, if not by the lab's
    name.

    With `upgrade_to` alone readiness for that version of Istio is checked too. The rest is as in `run_claims`.
    """
    chosen = (f"--topology={topology}", *(where or (f"--lab-name={lab_name}",)))
    if drills:
        return run_claims(root, ("suites/failover", "-k", " or ".join(drills), *chosen), report_dir)
    if rehearsals:
        named = ("suites/upgrade", "-k", " or ".join(rehearsals), f"{UPGRADE_TO_FLAG}={upgrade_to}")
        return run_claims(root, (*named, *chosen), report_dir, limit_s=REHEARSALS_S)
    suites = [f"suites/{suite}" for suite in SUITES]
    check = ("suites/upgrade/test_check.py", f"{UPGRADE_TO_FLAG}={upgrade_to}") if upgrade_to else ()
    return run_claims(root, (*suites, *check, *chosen), report_dir)


def run_claims(
    root: Path, arguments: Sequence[str], report_dir: Path, *, limit_s: float = LIMIT_S, shown: bool = False
) -> SuiteRun:
    """Run pytest with these arguments on a mesh that is left as it is.

    Raises `Broken` if the run gave no verdict or had no end, with its message about a wrong input, or its last lines.
    `root` is the folder with `suites/`. The run's whole output is kept in the same folder as its verdict, in
    `output.txt`; if it is `shown`, it goes to our own output instead.
    """
    report_dir.mkdir(parents=True, exist_ok=True)
    (report_dir / FILE_NAME).unlink(missing_ok=True)
    junit = report_dir / JUNIT
    junit.unlink(missing_ok=True)
    argv = [
        *(sys.executable, "-m", "pytest"),
        *arguments,
        "--mesh=existing",
        f"--report-dir={report_dir}",
        f"--junitxml={junit}",
        *(("--no-header",) if shown else ("-q",)),
        *("-p", "no:cacheprovider"),
    ]
    begin = time.monotonic()
    output = report_dir / OUTPUT
    see = SEE_ABOVE if shown else f"see {output}"
    try:
        if shown:
            code, printed = run_child(argv, cwd=root, limit_s=limit_s), ""
        else:
            with output.open("w") as out:
                code = run_child(argv, cwd=root, output=out, limit_s=limit_s)
            printed = output.read_text()
    except subprocess.TimeoutExpired:
        raise Broken("the suites", f"did not finish within {limit_s:g} s", see) from None
    seconds = time.monotonic() - begin
    wrong = wrong_input(printed) if code == _USAGE_ERROR else None
    if not (report_dir / FILE_NAME).exists():
        if code == _USAGE_ERROR and (wrong or shown):
            raise BadInput("the suites", *(wrong or ("the run could not begin", see)))
        raise _no_verdict("the suites", code, printed, see)
    unfinished = "" if code in _FINISHED else wrong[0] if wrong else f"exit code {code}, {see}"
    return replace(read_run(report_dir), seconds=seconds, unfinished=unfinished)


def run_to_verdict(what: str, argv: Sequence[str], report_dir: Path, *, cwd: Path, limit_s: float) -> None:
    """Run a command that writes a verdict into `report_dir`, where its output is kept, too.

    Raises `Broken` if it has no end within `limit_s`, or gives no verdict, with its last lines.
    """
    (report_dir / FILE_NAME).unlink(missing_ok=True)
    output = report_dir / OUTPUT
    see = f"see {output}"
    try:
        with output.open("w") as out:
            code = run_child(argv, cwd=cwd, output=out, limit_s=limit_s)
    except subprocess.TimeoutExpired:
        raise Broken(what, f"did not finish within {limit_s:g} s", see) from None
    if not (report_dir / FILE_NAME).exists():
        raise _no_verdict(what, code, output.read_text(), see)


def _no_verdict(what: str, code: int, printed: str, see: str) -> Broken:
    tail = "".join(f"\n    {line}" for line in printed.strip().splitlines()[-12:])
    return Broken(what, f"exit code {code} and no verdict{':' if tail else ''}{tail}", see)


def read_run(report_dir: Path) -> SuiteRun:
    """What the verdict in a report folder, and the JUnit file beside it, say about a run."""
    document = yaml.safe_load((report_dir / FILE_NAME).read_text())
    rows = _rows(document)
    return SuiteRun(
        results={claim: Result(row["result"]) for claim, row in rows.items()},
        texts=_texts(report_dir / JUNIT),
        reasons={claim: str(row["reason"]) for claim, row in rows.items() if row.get("reason")},
        outcome=str(document.get("outcome", "")),
        missing=tuple(map(str, document.get("missing") or ())),
    )


JUNIT: Final = "junit.xml"
OUTPUT: Final = "output.txt"
SEE_ABOVE: Final = "see above"
_USAGE_ERROR: Final = 4
_FINISHED: Final = frozenset({0, 1})
"""pytest's exit codes: with these all tests were run, and some of them may have failed."""
_WRONG_INPUT: Final = re.compile(r"^(?:ERROR: |!+ _pytest\.outcomes\.Exit: )", re.MULTILINE)
_REPAIR: Final = "repair: "


def wrong_input(printed: str) -> tuple[str, str] | None:
    """What a run that ended for a wrong input printed of it: the reason, and the repair, which is the last of it."""
    found = _WRONG_INPUT.search(printed)
    if found is None:
        return None
    reason: list[str] = []
    for line in printed[found.end() :].splitlines():
        said, framed = re.subn(r" !+$", "", line)
        if said.lstrip().startswith(_REPAIR):
            return "\n".join(reason), said.lstrip().removeprefix(_REPAIR)
        if not said.strip():
            break
        reason.append(said)
        if framed:
            break
    return "\n".join(reason), ""


def _rows(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The verdict's rows by claim."""
    return {code: row for topology in document["topologies"].values() for code, row in topology["claims"].items()}


def _texts(junit: Path) -> dict[str, str]:
    """The failure texts by claim: each begins with its code."""
    if not junit.exists():
        return {}
    found: dict[str, str] = {}
    for case in ElementTree.parse(junit).iter("testcase"):
        for kind in ("failure", "error"):
            for element in case.iter(kind):
                text = (element.text or "").strip()
                if match := CODE.match(text):
                    found.setdefault(match.group(), text)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteRun:
    """The results of one run of the suites: result and failure text by claim, and how long it took, in seconds.

    `reasons` are the reasons in one line, as the verdict has them; `unfinished` is why the run did not finish, if
    it did not; `outcome` is the verdict in short, `missing` why it is no GO though no claim is red.
    """

    results: Mapping[str, Result]
    texts: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    reasons: Mapping[str, str] = field(default_factory=dict)
    unfinished: str = ""
    outcome: str = ""
    missing: tuple[str, ...] = ()

    @property
    def held(self) -> tuple[str, ...]:
        return tuple(sorted(code for code, result in self.results.items() if result is Result.SUCCEEDED))

    @property
    def unasked(self) -> tuple[str, ...]:
        """Why nothing is known although no claim is red; empty for a run that asked all it should."""
        if self.unfinished:
            return (self.unfinished,)
        asserted = {Result.SUCCEEDED, Result.FAILED} & set(self.results.values())
        return self.missing or (() if asserted else ("nothing was asserted about the mesh",))

    @property
    def red(self) -> tuple[str, ...]:
        return tuple(sorted(code for code, result in self.results.items() if result in RED))


def import_suites(root: Path = ROOT) -> None:
    """Import every test module below `suites/`, so that the registry knows its claims."""
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    for path in sorted(root.glob("suites/**/test_*.py")):
        importlib.import_module(".".join(path.relative_to(root).with_suffix("").parts))
