"""What the runs of tests/sensitivity and tests/specificity have in common: when they run, and the slice of a day."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Protocol, TypeVar

import pytest

from fixtures.options import SETTINGS
from meshproof.calibration.daily_shard import part_of_day
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


def named(choose: Callable[[str], tuple[T, ...]], option: str, value: str) -> tuple[T, ...]:
    """The records that an option names; a wrong one is a usage error."""
    try:
        return choose(value)
    except BadInput as problem:
        raise pytest.UsageError(f"{option}: {problem}") from None
