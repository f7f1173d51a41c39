"""How many labs this machine can run side by side, and the limiting resources."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from meshproof.core.errors import BadInput
from meshproof.providers.lab import cleanup as remains
from meshproof.providers.lab import doctor
from meshproof.providers.lab.address_plan import SLOTS
from meshproof.providers.lab.api import running

CORES_PER_LAB = 1
"""With less than one core for two clusters, proxies are so slow that claims about time are BROKEN."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One resource: how many more labs it suffices for, and its current state."""

    labs: int
    found: str
    repair: str


def limits(most: int) -> tuple[Limit, ...]:
    """The limits on the number of further labs, checked for up to `most` of them."""
    cores = len(os.sched_getaffinity(0))
    memory_gib = doctor.available_memory_gib()
    watchers = doctor.free_inotify_instances(most * doctor.INOTIFY_INSTANCES)
    slots = SLOTS - len(remains.taken_slots())
    return (
        Limit(
            labs=cores // CORES_PER_LAB,
            found=f"{cores} cores, {CORES_PER_LAB} needed for each lab",
            repair="use a machine with more cores",
        ),
        Limit(
            labs=int(memory_gib // doctor.MEMORY_GIB),
            found=f"{memory_gib:.1f} GiB of memory available, {doctor.MEMORY_GIB} needed for each lab",
            repair="stop other programs, or use a machine with more memory",
        ),
        Limit(
            labs=watchers // doctor.INOTIFY_INSTANCES,
            found=f"{watchers} inotify instances free, {doctor.INOTIFY_INSTANCES} needed for each lab",
            repair=doctor.MORE_INOTIFY,
        ),
        Limit(
            labs=slots,
            found=f"{slots} of {SLOTS} address ranges free, one needed for each lab",
            repair="take other labs down with `meshproof lab down --lab-name=NAME`",
        ),
    )


def fitting(labs: Sequence[str]) -> int:
    """How many of these labs, from the first on, can be up at the same time; running ones always count."""
    return _fitting(labs, limits(len(labs)))


def _fitting(labs: Sequence[str], found: Sequence[Limit]) -> int:
    left = min(limit.labs for limit in found)
    for number, name in enumerate(labs):
        if running(name) is None:
            if left <= 0:
                return number
            left -= 1
    return len(labs)


def must_fit(labs: Sequence[str]) -> None:
    """Raise `BadInput` with the missing resources and how many fit, unless all of these labs can be up at once."""
    found = limits(len(labs))
    fit = _fitting(labs, found)
    if fit == len(labs):
        return
    missing = sum(running(name) is None for name in labs)
    tight = [limit for limit in found if limit.labs < missing]
    raise BadInput(
        f"-n {len(labs)}",
        f"this machine can run {fit} labs side by side:" + "".join(f"\n  {limit.found}" for limit in tight),
        (f"use -n {fit}" if fit > 1 else "omit -n") + "".join(f"\n  or {limit.repair}" for limit in tight),
    )
