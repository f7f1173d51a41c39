"""The state files of a lab, with which later processes find it, control it, and remove its leftovers."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from meshproof.core.errors import BadInput
from meshproof.core.model import ClusterName
from meshproof.core.paths import private_folder, state_root
from meshproof.providers.lab.address_plan import LabPlan, plan_slot

NAME = re.compile(r"[a-z][a-z0-9-]{0,15}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessMark:
    """A process identified by its id and its start time in clock ticks, since ids are reused."""

    pid: int
    start: int

    @classmethod
    def of(cls, pid: int) -> ProcessMark:
        return cls(pid=pid, start=start_time(pid) or 0)

    @property
    def alive(self) -> bool:
        return self.start != 0 and start_time(self.pid) == self.start


def start_time(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat (proc(5)); None if there is no such process or it is a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])


@dataclass(frozen=True, slots=True, kw_only=True)
class LabSpec:
    """The specification of a lab for its daemon. `owner`: the lab ends when this process does (None: it stays).

    `programs` are those of the clusters; `istio` maps the number of each release of Istio whose images they have
    to the folder of its programs, first the one that is installed.
    """

    name: str
    slot: int
    clusters: tuple[ClusterName, ...]
    programs: str
    seed: str
    istio: Mapping[str, str]
    owner: ProcessMark | None

    @property
    def plan(self) -> LabPlan:
        return plan_slot(self.name, self.slot, self.clusters)


class LabFolder:
    """The folder of one lab and the files in it."""

    def __init__(self, name: str) -> None:
        if not NAME.fullmatch(name):
            raise BadInput(
                f"lab name {name!r}",
                "must be 1 to 16 characters of a-z, 0-9 and '-', beginning with a letter",
                "choose another --lab-name",
            )
        self.name = name
        self.path = state_root() / "labs" / name

    def make(self) -> None:
        private_folder(self.path.parent)
        private_folder(self.path)

    @property
    def exists(self) -> bool:
        return self.path.exists()

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def control(self) -> Path:
        return self.path / "control.sock"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def node(self, cluster: str) -> Path:
        return self.path / "nodes" / cluster

    def kubeconfig(self, cluster: str) -> Path:
        return self.node(cluster) / "config" / "admin.kubeconfig"

    def write_spec(self, spec: LabSpec) -> None:
        (self.path / "spec.json").write_text(json.dumps(asdict(spec)))

    def read_spec(self) -> LabSpec | None:
        """The spec of the lab that is or was here; None if it is missing or incomplete."""
        try:
            raw = json.loads((self.path / "spec.json").read_text())
            owner = ProcessMark(**raw.pop("owner")) if raw["owner"] else raw.pop("owner")
            clusters = tuple(ClusterName(c) for c in raw.pop("clusters"))
            return LabSpec(**raw, clusters=clusters, owner=owner)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def mark_daemon(self) -> None:
        (self.path / "daemon.json").write_text(json.dumps(asdict(ProcessMark.of(os.getpid()))))

    @property
    def daemon(self) -> ProcessMark | None:
        """The running daemon of this lab; None if it has exited."""
        try:
            mark = ProcessMark(**json.loads((self.path / "daemon.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return mark if mark.alive else None

    @property
    def is_ready(self) -> bool:
        return self.daemon is not None and (self.path / "ready").exists()


def all_labs() -> tuple[LabFolder, ...]:
    """All labs with a folder, running or left behind."""
    root = state_root() / "labs"
    if not root.exists():
        return ()
    return tuple(LabFolder(p.name) for p in sorted(root.iterdir()) if NAME.fullmatch(p.name))
