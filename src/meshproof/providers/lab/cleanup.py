"""Finding and clearing everything that a lab made: processes, namespaces, links, cgroups, folders. Needs no daemon."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pyroute2 import IPRoute

from meshproof.core.errors import Broken
from meshproof.core.waiting import NotYet, eventually
from meshproof.providers.lab.address_plan import SLOTS, plan_slot
from meshproof.providers.lab.node import network
from meshproof.providers.lab.state import LabFolder, all_labs

CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    """What is there of one lab, whoever left it."""

    lab: str
    processes: tuple[int, ...]
    namespaces: tuple[str, ...]
    links: tuple[str, ...]
    cgroups: tuple[Path, ...]
    folder: bool

    def __bool__(self) -> bool:
        return bool(self.processes or self.namespaces or self.links or self.cgroups or self.folder)

    def __str__(self) -> str:
        parts = [
            f"{len(self.processes)} processes" if self.processes else "",
            f"namespaces {', '.join(self.namespaces)}" if self.namespaces else "",
            f"links {', '.join(self.links)}" if self.links else "",
            f"{len(self.cgroups)} cgroup folders" if self.cgroups else "",
            "its state folder" if self.folder else "",
        ]
        return f"lab {self.lab}: {', '.join(p for p in parts if p) or 'nothing'}"


def find(lab: str) -> Remains:
    """What is there of a lab, found by looking at the system, not at what the lab wrote down."""
    folder = LabFolder(lab)
    spec = folder.read_spec()
    wanted = {plan_slot(lab, spec.slot, spec.clusters).host_link} if spec else set()
    with IPRoute() as host:
        there = {str(link.get_attr("IFLA_IFNAME")) for link in host.get_links()}
    return Remains(
        lab=lab,
        processes=tuple(_processes(lab)),
        namespaces=network.namespaces_of(lab),
        links=tuple(sorted(wanted & there)),
        cgroups=tuple(_cgroups(lab)),
        folder=folder.exists,
    )


def _processes(lab: str) -> Iterator[int]:
    """Processes inside one of the lab's network namespaces. Pods have others, but end with their node's init."""
    inodes = set()
    for name in network.namespaces_of(lab):
        with suppress(OSError):
            inodes.add((network.NAMESPACES / name).stat().st_ino)
    if not inodes:
        return
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if (entry / "ns" / "net").stat().st_ino in inodes:
                    yield int(entry.name)


def _cgroups(lab: str) -> Iterator[Path]:
    """The lab's folder in every cgroup hierarchy (version 1: one per controller; version 2: one in all)."""
    for parent in (CGROUPS, *(p for p in CGROUPS.iterdir() if p.is_dir() and not p.is_symlink())):
        found = parent / "meshproof" / lab
        if found.is_dir():
            yield found


def clear(lab: str) -> Remains:
    """End and remove everything of a lab, its daemon first. Returns what was there; raises `Broken` if some stays."""
    folder = LabFolder(lab)
    before = find(lab)
    daemon = folder.daemon
    if daemon is not None:
        _end_daemon(folder)
    for pid in _processes(lab):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def gone() -> None:
        left = list(_processes(lab))
        if left:
            raise NotYet(f"processes {left} still run")

    eventually(gone, what=f"end of lab {lab}", timeout_s=20, repair="look at these processes with ps")
    for link in before.links or (None,):
        network.remove(lab, link)
    remove_cgroups(lab)
    if folder.exists:
        shutil.rmtree(folder.path)
    after = find(lab)
    if after:
        raise Broken(f"clearing {before}", f"still there: {after}", "run `meshproof lab down` once more")
    return before


def _end_daemon(folder: LabFolder) -> None:
    for how, patience_s in ((signal.SIGTERM, 30.0), (signal.SIGKILL, 5.0)):
        mark = folder.daemon
        if mark is None:
            return
        with suppress(ProcessLookupError):
            os.kill(mark.pid, how)

        def ended(mark: object = mark) -> None:
            if folder.daemon is not None:
                raise NotYet("it still runs")

        with suppress(Broken):
            eventually(ended, what="the lab's daemon", timeout_s=patience_s)


def remove_cgroups(lab: str) -> None:
    """Remove the lab's folder from every cgroup hierarchy. Raises `NotReady` if processes stay in it."""
    for cgroup in _cgroups(lab):
        eventually(partial(_remove_cgroup, cgroup), what=f"removing {cgroup}", timeout_s=10)


def container_cgroups(init_pid: int) -> tuple[Path, ...]:
    """The cgroups of a node's containers, while its init lives.

    Without cgroups per QoS containerd makes them beside each other at the top, for all labs in one place, so that only
    its own folder of tasks tells whose they are.
    """
    tasks = Path(f"/proc/{init_pid}/root/run/containerd/io.containerd.runtime.v2.task/k8s.io")
    names = [path.name for path in tasks.iterdir()] if tasks.is_dir() else []
    tops = [path / "k8s.io" for path in (CGROUPS, *CGROUPS.iterdir()) if path.is_dir() and not path.is_symlink()]
    return tuple(top / name for top in tops for name in names if (top / name).is_dir())


def remove_container_cgroups(cgroups: Iterable[Path]) -> None:
    """Remove what dead containers left. The next kubelet would wait for each of them (cAdvisor, seconds apiece)."""
    for cgroup in cgroups:
        eventually(partial(_remove_cgroup, cgroup), what=f"removing {cgroup}", timeout_s=10, poll_s=0.1)


def _remove_cgroup(top: Path) -> None:
    """Remove a cgroup and those below it; they are folders that only rmdir removes, and only when no process is in."""
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


def abandoned() -> tuple[Remains, ...]:
    """Labs that nobody runs any more but that left something: their daemon is gone."""
    return tuple(r for r in (find(f.name) for f in all_labs() if f.daemon is None) if r)


def taken_slots() -> set[int]:
    """Slots that have a lab's link on this host, or a lab that is starting."""
    with IPRoute() as host:
        names = {str(link.get_attr("IFLA_IFNAME")) for link in host.get_links()}
    from_links = {slot for slot in range(SLOTS) if f"meshproof{slot}" in names}
    specs = (f.read_spec() for f in all_labs())
    return from_links | {s.slot for s in specs if s is not None}
