"""What the process that has made a mesh hands over to those that prove claims on it."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from meshproof.core.errors import Broken, ClaimFailed, MeshproofError
from meshproof.install.lifecycle import Installed
from meshproof.mesh.access import ClusterAccess, Toolbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """How the clusters are reached, and what the install saw. No client that is open, and no credentials: only where
    these lie."""

    provider: str
    clusters: tuple[ClusterAccess, ...]
    toolbox: Toolbox
    installed: Installed


def handed_over(provider: str, clusters: Iterable[ClusterAccess], toolbox: Toolbox, installed: Installed) -> Handover:
    closed = tuple(replace(access, kube=None) for access in clusters)
    return Handover(provider=provider, clusters=closed, toolbox=toolbox, installed=installed)


def write_handover(path: Path, what: Handover | Exception) -> None:
    """Write it, or why there is no mesh. The folder must be private: whoever writes there has the reader run things."""
    told: Any = what if isinstance(what, Handover) else _plain(what)
    path.write_bytes(pickle.dumps(told))


def read_handover(path: Path) -> Handover:
    """Raises why there is no mesh, if there is none."""
    told = pickle.loads(path.read_bytes())
    if isinstance(told, MeshproofError):
        raise told
    assert isinstance(told, Handover)
    return told


def _plain(problem: Exception) -> MeshproofError:
    """The same in a class that can be read back."""
    if isinstance(problem, ClaimFailed):
        plain: MeshproofError = ClaimFailed(str(problem))
    elif isinstance(problem, Broken):
        plain = Broken(problem.what, problem.reason, problem.repair)
    else:
        plain = Broken("the mesh could not be made", f"{type(problem).__name__}: {problem}")
    for note in getattr(problem, "__notes__", ()):
        plain.add_note(note)
    return plain
