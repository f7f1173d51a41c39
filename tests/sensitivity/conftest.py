"""Which mutants a run covers, and the book in which their outcomes are kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from fixtures.options import SETTINGS
from meshproof.calibration.outcome import CleanPass, TrialOutcome
from meshproof.calibration.report import SensitivityReport, read_report, write_reports
from meshproof.faults.catalogue import FAULTS, chosen
from meshproof.faults.fault import Fault
from meshproof.run.settings import MUTANTS, Settings
from tests.calibration_items import Book, named, select_items

HERE = Path(__file__).parent


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "mutant" in metafunc.fixturenames:
        faults = _faults(metafunc.config.stash[SETTINGS])
        metafunc.parametrize("mutant", faults, ids=[fault.id for fault in faults])


def _faults(settings: Settings) -> tuple[Fault, ...]:
    """Those that were named, else all."""
    return named(chosen, MUTANTS.flag, settings.mutants) if settings.mutants else FAULTS


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    select_items(config, items, HERE, "mutant", "breaks meshes in every way it knows")


@pytest.fixture(scope="session")
def book(settings: Settings) -> Book[TrialOutcome]:
    folder = settings.report_dir
    known = read_report(folder)

    def write(outcomes: Sequence[TrialOutcome], passes: Sequence[CleanPass]) -> None:
        write_reports(folder, FAULTS, SensitivityReport(outcomes=outcomes, passes=passes))

    return Book((known.outcomes, known.passes), write, (fault.id for fault in FAULTS))
