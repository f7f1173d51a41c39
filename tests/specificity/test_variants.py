"""Every variant of a healthy mesh: no claim is red on it, and none is skipped without its reason. Then it is undone."""

from __future__ import annotations

import pytest

from meshproof.calibration.outcome import CleanPass
from meshproof.calibration.specificity import VariantOutcome, Verdict
from meshproof.calibration.variant_trial import FOLDER, VariantTrial, verify_attached
from meshproof.calibration.variants.variant import Variant
from meshproof.core.model import Topology
from meshproof.core.progress import Narrator
from meshproof.faults.catalogue import fault
from meshproof.faults.fault import Fault
from meshproof.faults.journal import Journal
from meshproof.mesh.handles import Mesh
from meshproof.run.clusters import Clusters
from meshproof.run.settings import Settings
from tests.calibration_items import Book

pytestmark = pytest.mark.lab


def test_every_claim_holds_on_it(
    request: pytest.FixtureRequest,
    topology: Topology,
    variant: Variant,
    settings: Settings,
    book: Book[VariantOutcome],
    narrator: Narrator,
) -> None:
    if reason := variant.not_here(topology):
        book.add(VariantOutcome(variant=variant.id, topology=topology.name, verdict=Verdict.NOT_HERE, reason=reason))
        pytest.skip(reason)
    clusters: Clusters = request.getfixturevalue("clusters")
    mesh: Mesh = request.getfixturevalue("somebody_elses")
    journal: Journal = request.getfixturevalue("journal")
    named: tuple[Fault, ...] | None = request.getfixturevalue("mutants")
    trial = VariantTrial(
        variant,
        mesh,
        journal,
        clusters.provider.machine_control,
        narrator,
        usual=request.getfixturevalue("usual"),
        mutants=[fault(each) for each in variant.still_kills] if named is None else named,
        lab_name=settings.lab_name,
        report_dir=settings.report_dir,
        root=request.config.rootpath,
    )
    outcome = trial.run()
    book.add(outcome)
    explanation = f": {outcome.explanation}" if outcome.explanation else ""
    narrator.say(f"{variant.id} on {topology.name}: {outcome.verdict}{explanation}")
    if not outcome.verdict.good:
        pytest.fail(
            f"{variant.id} ({variant.sentence}) on {topology.name}: {outcome.verdict}{explanation}", pytrace=False
        )
    if outcome.verdict is Verdict.NOT_HERE:
        pytest.skip(outcome.reason)


def test_afterwards_every_claim_holds(
    request: pytest.FixtureRequest,
    topology: Topology,
    somebody_elses: Mesh,
    settings: Settings,
    book: Book[VariantOutcome],
    narrator: Narrator,
) -> None:
    """The proof that undoing was exact, since nothing of all the variants is left."""
    with narrator.step(f"{topology.name} after all variants"):
        folder = settings.report_dir / FOLDER / topology.name / "undone"
        run = verify_attached(request.config.rootpath, somebody_elses, settings.lab_name, folder)
    book.add_pass(CleanPass.of(topology.name, run))
    if run.red:
        pytest.fail("\n".join(run.texts.get(code, code) for code in run.red), pytrace=False)
