"""Every installation by others, on clusters of its own: `meshproof verify` finds nothing wrong."""

from __future__ import annotations

import pytest

from meshproof.calibration.installers.catalogue import Installation
from meshproof.calibration.installers.trial import try_installation
from meshproof.calibration.specificity import VariantOutcome, Verdict
from meshproof.core.model import Topology
from meshproof.core.progress import Narrator
from meshproof.run.settings import Settings
from tests.calibration_items import Book

pytestmark = pytest.mark.lab


def test_every_claim_holds_on_it(
    topology: Topology, variant: Installation, settings: Settings, book: Book[VariantOutcome], narrator: Narrator
) -> None:
    if reason := variant.not_here(topology):
        book.add(VariantOutcome(variant=variant.id, topology=topology.name, verdict=Verdict.NOT_HERE, reason=reason))
        pytest.skip(reason)
    outcome = try_installation(variant, topology, f"{settings.lab_name}-docs", settings.report_dir, narrator)
    book.add(outcome)
    explanation = f": {outcome.explanation}" if outcome.explanation else ""
    narrator.say(f"{variant.id} on {topology.name}: {outcome.verdict}{explanation}")
    if not outcome.verdict.good:
        pytest.fail(
            f"{variant.id} ({variant.sentence}) on {topology.name}: {outcome.verdict}{explanation}", pytrace=False
        )
