"""Which mutants a run covers, and the book in which their outcomes are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.options import SETTINGS
from meshproof.calibration.outcome import CleanPass, TrialOutcome
from meshproof.calibration.report import SensitivityReport, read_report, write_reports
from meshproof.faults.catalogue import FAULTS, chosen
from meshproof.faults.fault import Fault
from meshproof.run.settings import MUTANTS, Settings
from tests.calibration_items import named, select_items

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


class Book:
    """The outcomes so far; written after each, so that an aborted run has reported its results.

    Those of earlier runs into the same folder stay, until the same mutant is tried on the same topology again.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        report = read_report(folder)
        self.outcomes = {outcome.key: outcome for outcome in report.outcomes}
        self.passes = list(report.passes)

    def add(self, outcome: TrialOutcome) -> None:
        self.outcomes[outcome.key] = outcome
        self._write()

    def add_pass(self, clean: CleanPass) -> None:
        self.passes.append(clean)
        self._write()

    def _write(self) -> None:
        outcomes = sorted(self.outcomes.values(), key=_place)
        write_reports(self.folder, FAULTS, SensitivityReport(outcomes=outcomes, passes=self.passes))


def _place(outcome: TrialOutcome) -> tuple[str, int]:
    order = [fault.id for fault in FAULTS]
    return outcome.topology, order.index(outcome.fault) if outcome.fault in order else len(order)


@pytest.fixture(scope="session")
def book(settings: Settings) -> Book:
    return Book(settings.report_dir)
