"""Which mutants a run covers, and the book in which their outcomes are kept."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from fixtures.options import SETTINGS
from meshproof.calibration.daily_shard import part_of_day
from meshproof.calibration.outcome import CleanPass, TrialOutcome
from meshproof.calibration.report import SensitivityReport, read_report, write_reports
from meshproof.core.errors import BadInput
from meshproof.faults.catalogue import FAULTS, chosen
from meshproof.faults.fault import Fault
from meshproof.run.settings import LAB, Settings

HERE = Path(__file__).parent


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "mutant" in metafunc.fixturenames:
        faults = _faults(metafunc.config.stash[SETTINGS])
        metafunc.parametrize("mutant", faults, ids=[fault.id for fault in faults])


def _faults(settings: Settings) -> tuple[Fault, ...]:
    """Those that were named, else all."""
    try:
        return tuple(chosen(settings.mutants)) if settings.mutants else FAULTS
    except BadInput as problem:
        raise pytest.UsageError(f"--mutants: {problem}") from None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without a topology nothing here can run; that is an error only if this folder was requested.

    On clusters of others nothing here may run, whatever is allowed, and on those of other tools faults are missing.
    """
    settings = config.stash[SETTINGS]
    if settings.provider != LAB and any(item.path.is_relative_to(HERE) for item in items):
        raise pytest.UsageError(
            f"--provider={settings.provider}: tests/sensitivity breaks meshes in every way it knows\n"
            "  repair: use --provider=lab for it"
        )
    requested = [(config.invocation_params.dir / argument.split("::")[0]).resolve() for argument in config.args]
    ours = [item for item in items if item.path.is_relative_to(HERE)]
    if not settings.topologies and not any(path.is_relative_to(HERE) for path in requested):
        unwanted = ours
    elif settings.slice:
        kept = slice_of_day(ours, settings, datetime.now(UTC).date())
        unwanted = [item for item in ours if item not in kept]
    else:
        return
    items[:] = [item for item in items if item not in unwanted]
    config.hook.pytest_deselected(items=unwanted)


def slice_of_day(items: Iterable[pytest.Item], settings: Settings, day: date) -> list[pytest.Item]:
    """The day's mutants, of those that each topology can have, and the look at what is left after each topology's."""
    params = {item: item.callspec.params for item in items if hasattr(item, "callspec")}
    trials = [
        (item, topology)
        for topology in settings.topologies
        for item, given in params.items()
        if given["topology"] == topology.name and "mutant" in given and not given["mutant"].not_here(topology)
    ]
    today = part_of_day(trials, settings.slice, day)
    touched = {topology.name for _, topology in today}
    after = [item for item, given in params.items() if "mutant" not in given and given["topology"] in touched]
    return [*(item for item, _ in today), *after]


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
