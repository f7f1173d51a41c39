"""The control groups of a lab and of its nodes' containers, which outlive killed processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from meshproof.core.waiting import NotYet, eventually

CGROUPS: Final = Path("/sys/fs/cgroup")


def container_cgroups(init_pid: int) -> tuple[Path, ...]:
    """The cgroups of a node's containers, while its init runs.

    Without cgroups per QoS containerd creates them all at the top level, for all labs, so that only
    its own task folders identify a node's.
    """
    tasks = Path(f"/proc/{init_pid}/root/run/containerd/io.containerd.runtime.v2.task/k8s.io")
    names = [path.name for path in tasks.iterdir()] if tasks.is_dir() else []
    tops = [path / "k8s.io" for path in (CGROUPS, *CGROUPS.iterdir()) if path.is_dir() and not path.is_symlink()]
    return tuple(top / name for top in tops for name in names if (top / name).is_dir())


def remove_container_cgroups(cgroups: Iterable[Path]) -> None:
    """Remove the cgroups of dead containers. The next kubelet would wait for each of them (cAdvisor, seconds
    apiece)."""
    for cgroup in cgroups:
        eventually(partial(_remove_cgroup, cgroup), what=f"removing {cgroup}", timeout_s=10, poll_s=0.1)


def lab_cgroups(lab: str) -> Iterator[Path]:
    """The lab's folder in every cgroup hierarchy (version 1: one per controller; version 2: one in all)."""
    for parent in (CGROUPS, *(p for p in CGROUPS.iterdir() if p.is_dir() and not p.is_symlink())):
        found = parent / "meshproof" / lab
        if found.is_dir():
            yield found


def remove_cgroups(lab: str) -> None:
    """Remove the lab's folder from every cgroup hierarchy. Raises `NotReady` if processes stay in it."""
    for cgroup in lab_cgroups(lab):
        eventually(partial(_remove_cgroup, cgroup), what=f"removing {cgroup}", timeout_s=10)


def _remove_cgroup(top: Path) -> None:
    """Remove a cgroup and those below it; they can only be removed with rmdir, when they have no process."""
    try:
        for path in sorted((p for p in top.rglob("*") if p.is_dir()), reverse=True):
            path.rmdir()
        top.rmdir()
        with suppress(OSError):
            top.parent.rmdir()
    except FileNotFoundError:
        return
    except OSError as problem:
        raise NotYet(str(problem)) from problem
