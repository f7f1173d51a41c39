"""Every fault on a healthy mesh: the claims that should notice it do, and no others. Then it is healed."""

from __future__ import annotations

import pytest

from meshproof.calibration.outcome import CleanPass, Fate, TrialOutcome
from meshproof.calibration.trial import Trial
from meshproof.claims.suite_run import run_suites
from meshproof.core.model import Topology
from meshproof.core.progress import Narrator
from meshproof.faults.fault import Fault
from meshproof.faults.journal import Journal
from meshproof.mesh.handles import Mesh
from meshproof.run.clusters import Clusters
from meshproof.run.settings import Settings
from tests.calibration_items import Book

pytestmark = pytest.mark.lab


def test_the_claims_notice_it(
    request: pytest.FixtureRequest,
    topology: Topology,
    mutant: Fault,
    settings: Settings,
    book: Book[TrialOutcome],
    narrator: Narrator,
) -> None:
    if reason := mutant.not_here(topology):
        book.add(TrialOutcome(fault=mutant.id, topology=topology.name, fate=Fate.NOT_HERE, reason=reason))
        pytest.skip(reason)
    clusters: Clusters = request.getfixturevalue("clusters")
    mesh: Mesh = request.getfixturevalue("mesh")
    journal: Journal = request.getfixturevalue("journal")
    trial = Trial(
        mutant,
        mesh,
        journal,
        clusters.provider.machine_control,
        narrator,
        lab_name=settings.lab_name,
        report_dir=settings.report_dir,
        root=request.config.rootpath,
    )
    outcome = trial.run()
    book.add(outcome)
    explanation = f": {outcome.explanation}" if outcome.explanation else ""
    narrator.say(f"{mutant.id} on {topology.name}: {outcome.fate}{explanation}")
    if not outcome.fate.good:
        pytest.fail(
            f"{mutant.id} ({mutant.sentence}) on {topology.name}: {outcome.fate}: {outcome.explanation}", pytrace=False
        )
    if outcome.fate is not Fate.KILLED:
        pytest.skip(f"{outcome.fate}: {outcome.explanation}")


def test_afterwards_every_claim_holds(
    request: pytest.FixtureRequest,
    topology: Topology,
    mesh: Mesh,
    settings: Settings,
    book: Book[TrialOutcome],
    narrator: Narrator,
) -> None:
    """The proof that healing was exact, since nothing of all the mutants is left, and a count of false alarms."""
    folder = settings.report_dir / "sensitivity" / topology.name / "healed"
    problems: list[str] = []
    for number in range(1, settings.passes + 1):
        with narrator.step(f"a mesh without a fault, {number} of {settings.passes}"):
            run = run_suites(request.config.rootpath, topology.name, settings.lab_name, folder)
        book.add_pass(CleanPass.of(topology.name, run))
        problems += [f"pass {number}: {run.texts.get(code, code)}" for code in run.red]
        problems += [f"pass {number}: {line}" for line in run.unasked]
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)
