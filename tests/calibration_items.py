"""What the runs of tests/sensitivity and tests/specificity have in common: when they run, and the slice of a day."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import pytest

from fixtures.options import SETTINGS
from meshproof.calibration.daily_shard import part_of_day
from meshproof.calibration.outcome import CleanPass
from meshproof.core.errors import BadInput
from meshproof.core.model import Topology
from meshproof.run.settings import LAB, Settings

T = TypeVar("T")


class Applicable(Protocol):
    """A fault or a variant."""

    def not_here(self, topology: Topology) -> str | None: ...


def select_items(config: pytest.Config, items: list[pytest.Item], here: Path, param: str, does: str) -> None:
    """Without a topology nothing in folder `here` can run; that is an error only if this folder was requested.

    On clusters of others nothing there may run, whatever is allowed (it `does` what nobody wants there), and on those
    of other tools faults are missing. With `--slice` the day's items are selected.
    """
    settings = config.stash[SETTINGS]
    ours = [item for item in items if item.path.is_relative_to(here)]
    if settings.provider != LAB and ours:
        raise pytest.UsageError(
            f"--provider={settings.provider}: tests/{here.name} {does}\n  repair: use --provider=lab for it"
        )
    requested = [(config.invocation_params.dir / argument.split("::")[0]).resolve() for argument in config.args]
    if not settings.topologies and not any(path.is_relative_to(here) for path in requested):
        unwanted = ours
    elif settings.slice:
        kept = slice_of_day(ours, settings, datetime.now(UTC).date(), param)
        unwanted = [item for item in ours if item not in kept]
    else:
        return
    items[:] = [item for item in items if item not in unwanted]
    config.hook.pytest_deselected(items=unwanted)


def slice_of_day(items: Iterable[pytest.Item], settings: Settings, day: date, param: str) -> list[pytest.Item]:
    """The day's trials, of those that each topology can have, and what comes after each topology's."""
    params = {item: item.callspec.params for item in items if hasattr(item, "callspec")}

    def applies(given: dict[str, object], topology: Topology) -> bool:
        record: Applicable | None = given.get(param)  # type: ignore[assignment]
        return given["topology"] == topology.name and record is not None and not record.not_here(topology)

    trials = [
        (item, topology)
        for topology in settings.topologies
        for item, given in params.items()
        if applies(given, topology)
    ]
    today = part_of_day(trials, settings.slice, day)
    touched = {topology.name for _, topology in today}
    after = [item for item, given in params.items() if param not in given and given["topology"] in touched]
    return [*(item for item, _ in today), *after]


class Outcome(Protocol):
    """Of one trial: `key` is the ID of its fault or variant, and the topology."""

    @property
    def key(self) -> tuple[str, str]: ...


TrialT = TypeVar("TrialT", bound=Outcome)


class Book(Generic[TrialT]):
    """The outcomes so far; written after each, so that an aborted run has reported its results.

    Those of earlier runs into the same folder stay, until the same fault or variant is tried on the same topology
    again. `order` has the IDs in the order of the report.
    """

    def __init__(
        self,
        known: tuple[Iterable[TrialT], Iterable[CleanPass]],
        write: Callable[[Sequence[TrialT], Sequence[CleanPass]], object],
        order: Iterable[str],
    ) -> None:
        outcomes, passes = known
        self.outcomes = {outcome.key: outcome for outcome in outcomes}
        self.passes = list(passes)
        self._order = {identifier: number for number, identifier in enumerate(order)}
        self._write_to = write

    def add(self, outcome: TrialT) -> None:
        self.outcomes[outcome.key] = outcome
        self._write()

    def add_pass(self, clean: CleanPass) -> None:
        self.passes.append(clean)
        self._write()

    def _write(self) -> None:
        self._write_to(sorted(self.outcomes.values(), key=self._place), self.passes)

    def _place(self, outcome: TrialT) -> tuple[str, int]:
        identifier, topology = outcome.key
        return topology, self._order.get(identifier, len(self._order))


def named(choose: Callable[[str], tuple[T, ...]], option: str, value: str) -> tuple[T, ...]:
    """The records that an option names; a wrong one is a usage error."""
    try:
        return choose(value)
    except BadInput as problem:
        raise pytest.UsageError(f"{option}: {problem}") from None
