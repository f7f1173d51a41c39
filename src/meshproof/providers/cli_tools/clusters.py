"""Clusters created with other command-line tools: recorded, created, used, and removed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from meshproof.core.errors import BadInput, Broken
from meshproof.core.model import ClusterName, Topology
from meshproof.core.paths import private_folder, state_root
from meshproof.core.progress import Narrator
from meshproof.mesh.access import ClusterAccess, Toolbox
from meshproof.mesh.machine_control import MachineControl
from meshproof.providers.cli_tools.commands import Command
from meshproof.providers.cli_tools.settings import Making
from meshproof.providers.contexts import Attachment, NamedContext
from meshproof.providers.kubeconfig import access_of, greeted
from meshproof.providers.lab.locks import WAIT, by_one_run
from meshproof.providers.lab.state import NAME
from meshproof.providers.release import release_toolbox


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """The record written before clusters are created, for the case that the run is killed.

    `clusters` are the tool's names; `where` is the project and zone, for example. `kept` is set by a run that
    has kept its complete clusters on purpose.
    """

    clusters: tuple[str, ...]
    where: str
    kept: bool


class RunFolder:
    """A provider's folder for the clusters of one lab name: the record, their kubeconfigs, and a lock."""

    def __init__(self, provider: str, name: str) -> None:
        if not NAME.fullmatch(name):
            raise BadInput(
                f"--lab-name={name}",
                "must be 1 to 16 characters of a-z, 0-9 and '-', beginning with a letter",
                "choose another one",
            )
        self.what = f"{provider} clusters of --lab-name={name}"
        self.path = state_root() / "made" / f"{provider}-{name}"

    def kubeconfig(self, cluster: ClusterName) -> Path:
        return self.path / f"{cluster}.kubeconfig"

    def read(self) -> RunRecord | None:
        """None if there is none. Raises `BadInput` if it cannot be parsed: clusters may depend on it."""
        path = self.path / "record.json"
        try:
            raw = json.loads(path.read_text())
            return RunRecord(clusters=tuple(map(str, raw["clusters"])), where=str(raw["where"]), kept=bool(raw["kept"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as problem:
            raise BadInput(
                f"file {path}",
                f"cannot be read: {problem}",
                "check whether its clusters exist, remove them, then remove the file",
            ) from None

    def write(self, record: RunRecord) -> None:
        fresh = self.path / "record.new"
        fresh.write_text(json.dumps(asdict(record)))
        fresh.replace(self.path / "record.json")

    def forget(self) -> None:
        shutil.rmtree(self.path)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder for this run. Raises `BadInput` at once, naming the process, if another run holds it."""
        private_folder(self.path.parent)
        private_folder(self.path)

        def busy(holder: str) -> BadInput:
            return BadInput(self.what, f"another run is using them (process {holder})", WAIT)

        with by_one_run(self.path.with_suffix(".lock"), busy):
            yield


class Maker(Protocol):
    """A tool that creates the clusters of one topology. `names` are the tool's names of the clusters."""

    name: str
    folder: RunFolder

    @property
    def names(self) -> Mapping[ClusterName, str]: ...

    @property
    def where(self) -> str:
        """What identifies a cluster besides its name: the project and the zone, for example."""
        ...

    def context(self, cluster: ClusterName) -> str: ...

    def existing(self, names: Sequence[str]) -> tuple[str, ...]:
        """Those of these clusters that exist."""
        ...

    def create(self) -> None:
        """Create all of them, with kubeconfigs in the folder, and with load balancers."""
        ...

    def removal(self, name: str) -> Command: ...

    def remove(self, names: Sequence[str]) -> None:
        """Remove these clusters, and what `connect` created. Tries all before it raises."""
        ...

    def connect(self, topology: Topology) -> None:
        """As `Provider.connect`."""
        ...

    def peers(self) -> Mapping[ClusterName, str]:
        """API servers' URLs for other clusters, where these differ from the kubeconfigs'."""
        ...


class MadeClusters:
    """Clusters created by a maker; a `Provider`. Their machines belong to the tool, so links cannot be cut."""

    def __init__(self, maker: Maker, clusters: tuple[ClusterAccess, ...], toolbox: Toolbox) -> None:
        self.name = maker.name
        self.clusters = clusters
        self.toolbox = toolbox
        self._maker = maker

    @property
    def machine_control(self) -> MachineControl | None:
        return None

    def connect(self, topology: Topology) -> None:
        self._maker.connect(topology)

    def problems(self) -> tuple[str, ...]:
        """Nothing: the infrastructure of these clusters is not visible from here."""
        return ()


def toolbox_of(making: Making) -> Toolbox:
    """The toolbox for new clusters. Raises `BadInput` if there is no istioctl, or none with published images."""
    return release_toolbox(making.istioctl, making.images)


def is_kept(maker: Maker) -> bool:
    """Whether a run with `--keep` has kept exactly these clusters, according to the record."""
    return _is_whole(maker, maker.folder.read())


def _is_whole(maker: Maker, record: RunRecord | None) -> bool:
    return (
        record is not None
        and record.kept
        and record.where == maker.where
        and set(maker.names.values()) <= set(record.clusters)
        and all(maker.folder.kubeconfig(cluster).is_file() for cluster in maker.names)
    )


@contextmanager
def open_made(
    maker: Maker, topology: Topology, toolbox: Toolbox, narrator: Narrator, *, keep: bool
) -> Iterator[MadeClusters]:
    """The clusters of `topology`, created by `maker`, or those that a run with `--keep` kept; removed at the end.

    Leftovers of a killed run of this name are removed first. Raises `BadInput` for clusters of these names that we did
    not create, `Broken` with the command that failed; then created clusters are removed.
    """
    with maker.folder.lock():
        left, usable = _look(maker)
        try:
            if usable:
                narrator.say(f"{maker.folder.what} exist already: using them")
            else:
                _make(maker, left, narrator)
            clusters = MadeClusters(maker, _greet(maker, topology, narrator), toolbox)
        except BaseException as problem:
            _clean_up_after(problem, maker)
            raise
        try:
            yield clusters
        finally:
            if keep:
                _write(maker, maker.folder.read(), kept=True)
                narrator.say(f"{maker.folder.what} are kept (--keep); the next run without --keep removes them")
            else:
                _remove_all(maker)


def _look(maker: Maker) -> tuple[tuple[str, ...], bool]:
    """Which of our clusters exist, and whether they can be used; records what this run will create.

    Raises `BadInput` for existing clusters that are not in our record: they are somebody else's.
    """
    record = maker.folder.read()
    if record is not None and record.where != maker.where:
        raise BadInput(
            maker.folder.what,
            f"an earlier run has left them in {record.where}, this one is for {maker.where}",
            "run for the same place once, without --keep, or choose another --lab-name",
        )
    known = record.clusters if record else ()
    there = maker.existing(tuple(dict.fromkeys((*maker.names.values(), *known))))
    if unknown := [name for name in there if name not in known]:
        raise BadInput(
            f"cluster {unknown[0]} of {maker.name}",
            "exists, but this machine has no record that meshproof created it",
            f"choose another --lab-name, or remove it: {maker.removal(unknown[0]).text}",
        )
    usable = _is_whole(maker, record) and set(maker.names.values()) <= set(there)
    _write(maker, record, kept=False)
    return there, usable


def _make(maker: Maker, left: Sequence[str], narrator: Narrator) -> None:
    if left:
        narrator.say(f"removing leftovers of an earlier run: {', '.join(left)}")
        maker.remove(left)
    maker.create()


def _greet(maker: Maker, topology: Topology, narrator: Narrator) -> tuple[ClusterAccess, ...]:
    source = f"--provider={maker.name}"
    attachment = Attachment(
        files=tuple(maker.folder.kubeconfig(cluster) for cluster in maker.names),
        source=source,
        contexts={
            cluster: NamedContext(name=maker.context(cluster), source=f"{source}: {cluster}") for cluster in maker.names
        },
        istioctl=None,
        images={},
    )
    with narrator.step(f"clusters of {maker.name} respond"):
        kubes = greeted(attachment, [cluster.name for cluster in topology.clusters])
        peers = maker.peers()
    return tuple(access_of(kube, server_for_peers=peers.get(ClusterName(kube.name), "")) for kube in kubes)


def _write(maker: Maker, record: RunRecord | None, *, kept: bool) -> None:
    known = record.clusters if record else ()
    names = tuple(dict.fromkeys((*known, *maker.names.values())))
    maker.folder.write(RunRecord(clusters=names, where=maker.where, kept=kept))


def _remove_all(maker: Maker) -> None:
    """Remove the record's clusters, then the record. If that fails, the record stays, so that the next run can try
    again."""
    record = maker.folder.read()
    maker.remove(maker.existing(record.clusters if record else ()))
    maker.folder.forget()


def _clean_up_after(problem: BaseException, maker: Maker) -> None:
    """Remove everything after a failed start; removal errors are added as notes."""
    try:
        _remove_all(maker)
    except Broken as other:
        problem.add_note(f"and what had been created could not be removed: {other}")
