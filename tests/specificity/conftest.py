"""Which variants a run covers, the book in which their outcomes are kept, and the mesh without a variant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from fixtures.options import SETTINGS
from meshproof.calibration.installers.catalogue import Installation
from meshproof.calibration.legal_meshes import LEGAL_MESHES
from meshproof.calibration.outcome import CleanPass
from meshproof.calibration.specificity import VariantOutcome
from meshproof.calibration.specificity_report import SpecificityReport, read_specificity, write_specificity
from meshproof.calibration.variant_trial import FOLDER, verify_attached, without_probe_namespaces
from meshproof.calibration.variants.legal_mesh import LegalMesh
from meshproof.calibration.variants.variant import Variant
from meshproof.claims.results import Result
from meshproof.core.identifiers import find_all_by_id
from meshproof.core.progress import Narrator
from meshproof.faults.catalogue import chosen
from meshproof.faults.fault import Fault
from meshproof.mesh.handles import Mesh
from meshproof.run.settings import MUTANTS, Settings
from meshproof.run.settings import VARIANTS as VARIANTS_OPTION
from tests.calibration_items import Book, named, select_items

HERE = Path(__file__).parent
NONE = "none"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "variant" in metafunc.fixturenames:
        kind = Installation if metafunc.module.__name__.endswith("test_installations") else Variant
        chosen = [each for each in _legal_meshes(metafunc.config.stash[SETTINGS]) if isinstance(each, kind)]
        metafunc.parametrize("variant", chosen, ids=[each.id for each in chosen])


def _legal_meshes(settings: Settings) -> tuple[LegalMesh, ...]:
    """Those that were named, else all."""

    def choose(identifiers: str) -> tuple[LegalMesh, ...]:
        return find_all_by_id("variant", LEGAL_MESHES, identifiers)

    return named(choose, VARIANTS_OPTION.flag, settings.variants) if settings.variants else LEGAL_MESHES


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    select_items(config, items, HERE, "variant", "changes meshes in every legal way it knows")


@pytest.fixture(scope="session")
def book(settings: Settings) -> Book[VariantOutcome]:
    folder = settings.report_dir
    known = read_specificity(folder)

    def write(outcomes: Sequence[VariantOutcome], passes: Sequence[CleanPass]) -> None:
        write_specificity(folder, LEGAL_MESHES, SpecificityReport(outcomes=outcomes, passes=passes))

    return Book((known.outcomes, known.passes), write, (each.id for each in LEGAL_MESHES))


@pytest.fixture(scope="session")
def somebody_elses(mesh: Mesh, narrator: Narrator) -> Iterator[Mesh]:
    """The mesh as a user has it: without our demonstration service, which every run makes for itself."""
    with without_probe_namespaces(mesh, narrator):
        yield mesh


@pytest.fixture(scope="session")
def usual(
    request: pytest.FixtureRequest,
    somebody_elses: Mesh,
    settings: Settings,
    book: Book[VariantOutcome],
    narrator: Narrator,
) -> Mapping[str, Result]:
    """The results of all claims on that mesh, without a variant: what is skipped there is no variant's doing."""
    topology = somebody_elses.topology.name
    with narrator.step(f"{topology} without a variant"):
        folder = settings.report_dir / FOLDER / topology / "usual"
        run = verify_attached(request.config.rootpath, somebody_elses, settings.lab_name, folder)
    book.add_pass(CleanPass.of(topology, run))
    return run.results


@pytest.fixture(scope="session")
def mutants(settings: Settings) -> tuple[Fault, ...] | None:
    """Those that were named, for every variant; None for those of its record."""
    if not settings.mutants:
        return None
    return () if settings.mutants == NONE else named(chosen, MUTANTS.flag, settings.mutants)
