"""The labs of a run with `-n`: one for each worker, prepared before they start, and removed after a worker died."""

from __future__ import annotations

from meshproof.core.errors import Broken
from meshproof.core.progress import Narrator
from meshproof.providers.lab import api, cleanup
from meshproof.providers.lab.build.istio_releases import CURRENT
from meshproof.providers.lab.capacity import fitting, must_fit
from meshproof.providers.lab.state import LabFolder
from meshproof.run.clusters import lab_releases
from meshproof.run.settings import Settings


def labs_of(settings: Settings, workers: int) -> tuple[str, ...]:
    """The names of the workers' labs, each used by one worker at a time. Raises `BadInput` if they are too long."""
    return tuple(LabFolder(f"{settings.lab_name}-{number}").name for number in range(1, workers + 1))


def most_workers(settings: Settings) -> int:
    """As many as there are topologies, if so many labs fit on this machine; at least one. Raises as `labs_of` does."""
    return max(1, fitting(labs_of(settings, len(settings.topologies))))


def fitting_labs(settings: Settings, workers: int) -> tuple[str, ...]:
    """The labs for so many workers. Raises `BadInput` if they do not all fit on this machine."""
    labs = labs_of(settings, min(workers, len(settings.topologies)))
    must_fit(labs)
    return labs


def prepare(settings: Settings, narrator: Narrator) -> None:
    """Build once what all labs share, before any worker needs it."""
    api.prepare_machine(lab_releases(settings) or (CURRENT,), narrator)


def remove_after_death(name: str, settings: Settings, narrator: Narrator) -> None:
    """Remove the lab of a worker that is gone. One that is to stay is healed by the next worker or run that uses it."""
    lab = api.running(name)
    try:
        stays = lab is not None and lab.spec.owner is None
        if not stays and cleanup.find_remains(name):
            api.save_logs(LabFolder(name), settings.report_dir / "lab" / name)
            api.down(name, narrator)
    except Broken as problem:
        narrator.say(f"lab {name}: {problem}")
