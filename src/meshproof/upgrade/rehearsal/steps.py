"""The steps of an upgrade and of its rollback, from the topology alone: in place, and by revision.

After each step the mesh must be healthy, mostly with mixed versions. Together the steps upgrade and roll back, and they
contain the rollback of every single step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from meshproof.mesh.handles import Cluster, Mesh
from meshproof.upgrade.rehearsal import actions
from meshproof.upgrade.rehearsal.control_plane import ControlPlane


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsalStep:
    """One thing that an operator does to one cluster.

    `governs` is the control plane that injects new pods afterwards. `proven`: all claims run after it. `back`: it
    belongs to the rollback. `reaches` names the state after it, if its record is compared. `before` runs first, without
    load.
    """

    name: str
    governs: ControlPlane
    proven: bool = True
    back: bool = False
    reaches: str = ""
    do: Callable[[], object] = field(repr=False)
    before: Callable[[], object] | None = field(default=None, repr=False)


START = "start"
TARGET = "target"
RETURNED = "returned"
"""States in which records are taken."""


def in_place_steps(mesh: Mesh, old: ControlPlane, new: ControlPlane) -> tuple[RehearsalStep, ...]:
    """Cluster by cluster in the topology's order: its istiod (in a remote the reference to it), then its proxies.

    Each istiod is rolled back once before any proxy is new. The rollback has the same order, so that both mixtures of
    versions occur: first cluster new and others old, then the reverse. A control plane is rolled back together with all
    proxies that it controls, since a proxy must not be ahead of its istiod.
    """
    return (*_forward_in_place(mesh, old, new), *_back_in_place(mesh, old, new))


def _what(cluster: Cluster) -> str:
    return f"istiod of {cluster}" if cluster.is_primary else f"istiod reference of {cluster}"


def _forward_in_place(mesh: Mesh, old: ControlPlane, new: ControlPlane) -> Iterator[RehearsalStep]:
    for number, cluster in enumerate(mesh.clusters, start=1):
        up = partial(actions.install, new, mesh, cluster)
        if cluster.is_primary:
            yield RehearsalStep(name=f"{_what(cluster)} to {new}", governs=new, do=up, proven=False)
            down = partial(actions.install, old, mesh, cluster)
            yield RehearsalStep(name=f"{_what(cluster)} back to {old}", governs=old, do=down, proven=False, back=True)
        yield RehearsalStep(name=f"{_what(cluster)} to {new}", governs=new, do=up)
        yield RehearsalStep(
            name=f"proxies of {cluster} to {new}",
            governs=new,
            reaches=TARGET if number == len(mesh.clusters) else "",
            do=partial(_restart, mesh, (cluster,)),
        )


def _back_in_place(mesh: Mesh, old: ControlPlane, new: ControlPlane) -> Iterator[RehearsalStep]:
    for number, cluster in enumerate(mesh.clusters, start=1):
        governed = mesh.controlled_by(cluster) if cluster.is_primary else ()
        yield RehearsalStep(
            name=f"{_what(cluster)} back to {old}" + (", with the proxies that it controls" if governed else ""),
            governs=old,
            back=True,
            reaches=RETURNED if number == len(mesh.clusters) else "",
            do=partial(_go_back, old, mesh, cluster, governed),
        )


def _go_back(old: ControlPlane, mesh: Mesh, cluster: Cluster, governed: tuple[Cluster, ...]) -> None:
    actions.install(old, mesh, cluster)
    _restart(mesh, governed)


def _restart(mesh: Mesh, clusters: tuple[Cluster, ...]) -> None:
    for cluster in clusters:
        actions.restart_gateways(mesh, cluster)
        actions.restart_workloads(cluster)


def by_revision_steps(
    mesh: Mesh, old: ControlPlane, new: ControlPlane, recreate_clients: Callable[[], object]
) -> tuple[RehearsalStep, ...]:
    """Install a second control plane in all clusters, move the tag, then the proxies (last cluster first), and remove
    the old control plane. The rollback does the same in the other direction.

    `recreate_clients` replaces our long-lived pods: nothing may need a control plane that is removed.
    """
    primaries_first = (*mesh.primaries, *mesh.remotes)
    last_first = tuple(reversed(mesh.clusters))
    steps = [
        *(_added(mesh, old, new, cluster, back=False) for cluster in primaries_first),
        *(_tagged(mesh, new, new, cluster, back=False) for cluster in last_first),
        *(_moved(mesh, new, cluster, back=False) for cluster in last_first),
        *_gone(mesh, old, new, recreate_clients, back=False),
        *(_added(mesh, new, old, cluster, back=True) for cluster in primaries_first),
        *(_tagged(mesh, old, new, cluster, back=True) for cluster in last_first),
        *(_moved(mesh, old, cluster, back=True) for cluster in last_first),
        *_gone(mesh, new, old, recreate_clients, back=True),
    ]
    return tuple(steps)


def _added(mesh: Mesh, there: ControlPlane, added: ControlPlane, cluster: Cluster, *, back: bool) -> RehearsalStep:
    what = "istiod" if cluster.is_primary else "istiod reference"

    def do() -> None:
        actions.install(added, mesh, cluster)
        if cluster.is_primary:
            actions.expose((there, added), mesh, cluster)

    name = f"{what} {added} added in {cluster}"
    return RehearsalStep(name=name, governs=there, do=do, proven=not back, back=back)


def _tagged(mesh: Mesh, to: ControlPlane, tool: ControlPlane, cluster: Cluster, *, back: bool) -> RehearsalStep:
    name = f"tag {actions.DEFAULT_TAG} of {cluster} to {to}"
    return RehearsalStep(
        name=name, governs=to, do=partial(actions.set_tag, to, tool, mesh, cluster), proven=not back, back=back
    )


def _moved(mesh: Mesh, to: ControlPlane, cluster: Cluster, *, back: bool) -> RehearsalStep:
    return RehearsalStep(
        name=f"proxies of {cluster} to {to}",
        governs=to,
        proven=not back,
        back=back,
        do=partial(_restart, mesh, (cluster,)),
    )


def _gone(
    mesh: Mesh, gone: ControlPlane, stays: ControlPlane, recreate_clients: Callable[[], object], *, back: bool
) -> Iterator[RehearsalStep]:
    """Remove a control plane, in remotes first: their API servers call the istiod of a primary."""
    clusters = (*mesh.remotes, *mesh.primaries)
    tool = gone if back else stays  # the newer istioctl supports both

    def do(cluster: Cluster) -> None:
        actions.uninstall(gone, tool, mesh, cluster)
        if cluster.is_primary:
            actions.expose((stays,), mesh, cluster)

    for number, cluster in enumerate(clusters, start=1):
        last = number == len(clusters)
        yield RehearsalStep(
            name=f"{gone} removed from {cluster}",
            governs=stays,
            proven=last or not back,
            back=back,
            reaches=(RETURNED if back else TARGET) if last else "",
            do=partial(do, cluster),
            before=recreate_clients if number == 1 else None,
        )
