"""Finds and removes everything of a lab without its daemon: processes, namespaces, links, cgroups, folders."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pyroute2 import IPRoute

from meshproof.core.errors import Broken
from meshproof.core.waiting import NotYet, eventually
from meshproof.providers.lab.address_plan import SLOTS, plan_slot
from meshproof.providers.lab.node import network
from meshproof.providers.lab.node.cgroups import lab_cgroups, remove_cgroups
from meshproof.providers.lab.state import LabFolder, all_labs


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    """What exists of one lab."""

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


def find_remains(lab: str) -> Remains:
    """What exists of a lab, found in the system, not in the lab's own files."""
    folder = LabFolder(lab)
    spec = folder.read_spec()
    wanted = {plan_slot(lab, spec.slot, spec.clusters).host_link} if spec else set()
    with IPRoute() as host:
        there = {str(link.get_attr("IFLA_IFNAME")) for link in host.get_links()}
    return Remains(
        lab=lab,
        processes=tuple(_processes(lab)),
        namespaces=network.lab_namespaces(lab),
        links=tuple(sorted(wanted & there)),
        cgroups=tuple(lab_cgroups(lab)),
        folder=folder.exists,
    )


def _processes(lab: str) -> Iterator[int]:
    """Processes in the lab's network namespaces. Those of pods are not included, but end with their node's init."""
    inodes = set()
    for name in network.lab_namespaces(lab):
        with suppress(OSError):
            inodes.add((network.NAMESPACES / name).stat().st_ino)
    if not inodes:
        return
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if (entry / "ns" / "net").stat().st_ino in inodes:
                    yield int(entry.name)


def clear(lab: str) -> Remains:
    """Stop and remove everything of a lab, its daemon first. Returns what was removed; raises `Broken` if something is
    left."""
    folder = LabFolder(lab)
    before = find_remains(lab)
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

    eventually(gone, what=f"end of lab {lab}", timeout_s=20, repair="check these processes with ps")
    for link in before.links or (None,):
        network.remove(lab, link)
    remove_cgroups(lab)
    if folder.exists:
        shutil.rmtree(folder.path)
    after = find_remains(lab)
    if after:
        raise Broken(f"clearing {before}", f"still left: {after}", "run `meshproof lab down` once more")
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


def abandoned() -> tuple[Remains, ...]:
    """Leftovers of labs whose daemon has exited."""
    return tuple(r for r in (find_remains(f.name) for f in all_labs() if f.daemon is None) if r)


def taken_slots() -> set[int]:
    """Slots in use: with a lab's link on this host, or a lab that is starting."""
    with IPRoute() as host:
        names = {str(link.get_attr("IFLA_IFNAME")) for link in host.get_links()}
    from_links = {slot for slot in range(SLOTS) if f"meshproof{slot}" in names}
    specs = (f.read_spec() for f in all_labs())
    return from_links | {s.slot for s in specs if s is not None}
