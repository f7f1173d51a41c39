"""Which mutants a run covers, and the book in which their outcomes are kept."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from fixtures.options import SETTINGS
from meshproof.errors import BadInput
from meshproof.faults.catalogue import FAULTS, chosen
from meshproof.faults.fault import Fault
from meshproof.options import Settings
from meshproof.sensitivity.outcome import Outcome
from meshproof.sensitivity.report import write_reports
from meshproof.sensitivity.slices import slice_of_day

HERE = Path(__file__).parent


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "mutant" in metafunc.fixturenames:
        faults = _faults(metafunc.config.stash[SETTINGS])
        metafunc.parametrize("mutant", faults, ids=[fault.id for fault in faults])


def _faults(settings: Settings) -> tuple[Fault, ...]:
    """Those that were named, else all; of these the day's slice, if one was asked for."""
    try:
        named = tuple(chosen(settings.mutants)) if settings.mutants else FAULTS
    except BadInput as problem:
        raise pytest.UsageError(f"--mutants: {problem}") from None
    return slice_of_day(named, settings.slice, datetime.now(UTC).date()) if settings.slice else named


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without a topology nothing here can run; that is an error only for who asked for this folder.

    On clusters of others nothing here may run, whatever is allowed.
    """
    if config.stash[SETTINGS].attachment is not None and any(item.path.is_relative_to(HERE) for item in items):
        raise pytest.UsageError(
            f"--provider={config.stash[SETTINGS].provider}: tests/sensitivity breaks meshes in every way it knows\n"
            "  repair: use --provider=lab for it"
        )
    asked = [(config.invocation_params.dir / argument.split("::")[0]).resolve() for argument in config.args]
    if config.stash[SETTINGS].topologies or any(path.is_relative_to(HERE) for path in asked):
        return
    ours = [item for item in items if item.path.is_relative_to(HERE)]
    items[:] = [item for item in items if item not in ours]
    config.hook.pytest_deselected(items=ours)


class Book:
    """The outcomes so far; written after each, so that a run that is stopped has told what it knew."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outcomes: list[Outcome] = []

    def add(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        write_reports(self.folder, FAULTS, self.outcomes)


@pytest.fixture(scope="session")
def book(settings: Settings) -> Book:
    return Book(settings.report_dir)
