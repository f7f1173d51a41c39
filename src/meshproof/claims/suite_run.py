"""Running the suites as a user would, in a process of their own, and reading what they said."""

from __future__ import annotations

import importlib
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import yaml

from meshproof.claims.claim import CODE
from meshproof.claims.results import FILE_NAME, RED, Result
from meshproof.core.errors import Broken
from meshproof.core.option_names import UPGRADE_TO_FLAG

ROOT: Final = Path(__file__).resolve().parents[3]
"""The checkout, with `suites/`."""
SUITES: Final = ("trust", "discovery", "gateways", "controlplane", "traffic")
"""Those that prove a mesh without breaking it."""
LIMIT_S: Final = 900.0
JOURNEYS_S: Final = 3600.0


def run_suites(
    root: Path,
    topology: str,
    lab_name: str,
    report_dir: Path,
    *,
    drills: Sequence[str] = (),
    journeys: Sequence[str] = (),
    upgrade_to: str = "",
) -> SuiteRun:
    """Verify the mesh of a running lab as it is, by all claims that do not break it, or by these `drills`, or by these
    claims about an upgrade to `upgrade_to`.

    With `upgrade_to` alone it is asked too whether the mesh is ready for that version of Istio. The rest is
    `run_claims`'.
    """
    chosen = (f"--topology={topology}", f"--lab-name={lab_name}")
    if drills:
        return run_claims(root, ("suites/failover", "-k", " or ".join(drills), *chosen), report_dir)
    if journeys:
        named = ("suites/upgrade", "-k", " or ".join(journeys), f"{UPGRADE_TO_FLAG}={upgrade_to}")
        return run_claims(root, (*named, *chosen), report_dir, limit_s=JOURNEYS_S)
    suites = [f"suites/{suite}" for suite in SUITES]
    asked = ("suites/upgrade/test_check.py", f"{UPGRADE_TO_FLAG}={upgrade_to}") if upgrade_to else ()
    return run_claims(root, (*suites, *asked, *chosen), report_dir)


def run_claims(root: Path, arguments: Sequence[str], report_dir: Path, *, limit_s: float = LIMIT_S) -> SuiteRun:
    """Run pytest with these arguments on a mesh that is left as it is.

    Raises `Broken` with the last lines if the run told nothing.
    `root` is the folder with `suites/`. The run's whole output is kept beside its verdict, in `output.txt`.
    """
    report_dir.mkdir(parents=True, exist_ok=True)
    (report_dir / FILE_NAME).unlink(missing_ok=True)
    junit = report_dir / "junit.xml"
    junit.unlink(missing_ok=True)
    argv = [
        *(sys.executable, "-m", "pytest"),
        *arguments,
        "--mesh=existing",
        f"--report-dir={report_dir}",
        f"--junitxml={junit}",
        "-q",
        *("-p", "no:cacheprovider"),
    ]
    begin = time.monotonic()
    output = report_dir / "output.txt"
    with output.open("w") as out:
        done = subprocess.run(
            argv, cwd=root, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, timeout=limit_s
        )
    seconds = time.monotonic() - begin
    if not (report_dir / FILE_NAME).exists():
        tail = "\n    ".join(output.read_text().strip().splitlines()[-12:])
        raise Broken("the suites", f"exit code {done.returncode} and no verdict:\n    {tail}", f"see {output}")
    return SuiteRun(results=_results(report_dir / FILE_NAME), texts=_texts(junit), seconds=seconds)


def _results(verdict: Path) -> dict[str, Result]:
    told = yaml.safe_load(verdict.read_text())
    return {
        code: Result(row["result"])
        for topology in told["topologies"].values()
        for code, row in topology["claims"].items()
    }


def _texts(junit: Path) -> dict[str, str]:
    """The failure texts by claim: each begins with its code."""
    if not junit.exists():
        return {}
    found: dict[str, str] = {}
    for case in ElementTree.parse(junit).iter("testcase"):
        for kind in ("failure", "error"):
            for told in case.iter(kind):
                text = (told.text or "").strip()
                if match := CODE.match(text):
                    found.setdefault(match.group(), text)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteRun:
    """What one run of the suites said: result and failure text by claim, and how long it took, in seconds."""

    results: Mapping[str, Result]
    texts: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def held(self) -> tuple[str, ...]:
        return tuple(sorted(code for code, result in self.results.items() if result is Result.SUCCEEDED))

    @property
    def red(self) -> tuple[str, ...]:
        return tuple(sorted(code for code, result in self.results.items() if result in RED))


def import_suites(root: Path = ROOT) -> None:
    """Import every test module below `suites/`, so that the registry knows its claims."""
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    for path in sorted(root.glob("suites/**/test_*.py")):
        importlib.import_module(".".join(path.relative_to(root).with_suffix("").parts))
