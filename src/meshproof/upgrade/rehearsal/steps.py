"""The steps of an upgrade and of its rollback, from the topology alone: in place, and by revision.

Each step leaves a mesh that must be whole: versions are mixed in most of them. Taken together they lead there and back,
and whatever step one would turn back from, its way back is among them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from meshproof.mesh.handles import Cluster, Mesh
from meshproof.upgrade.rehearsal import actions as moves
from meshproof.upgrade.rehearsal.control_plane import ControlPlane


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsalStep:
    """One thing that an operator does to one cluster.

    `governs` is the control plane that injects new pods afterwards. `proven` says whether all claims are proven after
    it, `back` whether it belongs to the rollback. `reaches` names the state that is reached, if it is one that records
    are compared of. `before` is done first, without load.
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
"""States of which records are taken."""


def in_place_steps(mesh: Mesh, old: ControlPlane, new: ControlPlane) -> tuple[RehearsalStep, ...]:
    """Cluster by cluster in the topology's order: its istiod (in a remote what points to it), then its proxies.

    Each istiod is taken back once while no proxy is new. The rollback has the same order, so that both mixtures of
    versions are seen: first the first cluster new and the others old, then the other way round. A control plane goes
    back together with all proxies that it governs, since one that is ahead of its istiod is not supported.
    """
    return (*_forward_in_place(mesh, old, new), *_back_in_place(mesh, old, new))


def _what(cluster: Cluster) -> str:
    return f"istiod of {cluster}" if cluster.is_primary else f"what points to istiod in {cluster}"


def _forward_in_place(mesh: Mesh, old: ControlPlane, new: ControlPlane) -> Iterator[RehearsalStep]:
    for number, cluster in enumerate(mesh.clusters, start=1):
        up = partial(moves.install, new, mesh, cluster)
        if cluster.is_primary:
            yield RehearsalStep(name=f"{_what(cluster)} to {new}", governs=new, do=up, proven=False)
            down = partial(moves.install, old, mesh, cluster)
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
            name=f"{_what(cluster)} back to {old}" + (", and the proxies that it governs" if governed else ""),
            governs=old,
            back=True,
            reaches=RETURNED if number == len(mesh.clusters) else "",
            do=partial(_go_back, old, mesh, cluster, governed),
        )


def _go_back(old: ControlPlane, mesh: Mesh, cluster: Cluster, governed: tuple[Cluster, ...]) -> None:
    moves.install(old, mesh, cluster)
    _restart(mesh, governed)


def _restart(mesh: Mesh, clusters: tuple[Cluster, ...]) -> None:
    for cluster in clusters:
        moves.restart_gateways(mesh, cluster)
        moves.restart_workloads(cluster)


def by_revision_steps(
    mesh: Mesh, old: ControlPlane, new: ControlPlane, follow: Callable[[], object]
) -> tuple[RehearsalStep, ...]:
    """A second control plane beside the first, in all clusters; then the tag, then the proxies, the last cluster first;
    then the old one goes. The rollback takes the same steps from their end.

    `follow` has pods of our own made anew that were left as they were: nothing may need a control plane that goes.
    """
    primaries_first = (*mesh.primaries, *mesh.remotes)
    last_first = tuple(reversed(mesh.clusters))
    steps = [
        *(_beside(mesh, old, new, cluster, back=False) for cluster in primaries_first),
        *(_tagged(mesh, new, new, cluster, back=False) for cluster in last_first),
        *(_moved(mesh, new, cluster, back=False) for cluster in last_first),
        *_gone(mesh, old, new, follow, back=False),
        *(_beside(mesh, new, old, cluster, back=True) for cluster in primaries_first),
        *(_tagged(mesh, old, new, cluster, back=True) for cluster in last_first),
        *(_moved(mesh, old, cluster, back=True) for cluster in last_first),
        *_gone(mesh, new, old, follow, back=True),
    ]
    return tuple(steps)


def _beside(mesh: Mesh, there: ControlPlane, beside: ControlPlane, cluster: Cluster, *, back: bool) -> RehearsalStep:
    what = "istiod" if cluster.is_primary else "what points to istiod"

    def do() -> None:
        moves.install(beside, mesh, cluster)
        if cluster.is_primary:
            moves.expose((there, beside), mesh, cluster)

    name = f"{what} {beside} beside the other in {cluster}"
    return RehearsalStep(name=name, governs=there, do=do, proven=not back, back=back)


def _tagged(mesh: Mesh, to: ControlPlane, tool: ControlPlane, cluster: Cluster, *, back: bool) -> RehearsalStep:
    name = f"tag {moves.DEFAULT_TAG} of {cluster} to {to}"
    return RehearsalStep(
        name=name, governs=to, do=partial(moves.set_tag, to, tool, mesh, cluster), proven=not back, back=back
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
    mesh: Mesh, gone: ControlPlane, stays: ControlPlane, follow: Callable[[], object], *, back: bool
) -> Iterator[RehearsalStep]:
    """Remotes first: their API servers call the istiod of a primary."""
    clusters = (*mesh.remotes, *mesh.primaries)
    tool = gone if back else stays  # the newer istioctl knows both

    def do(cluster: Cluster) -> None:
        moves.uninstall(gone, tool, mesh, cluster)
        if cluster.is_primary:
            moves.expose((stays,), mesh, cluster)

    for number, cluster in enumerate(clusters, start=1):
        last = number == len(clusters)
        yield RehearsalStep(
            name=f"{gone} removed from {cluster}",
            governs=stays,
            proven=last or not back,
            back=back,
            reaches=(RETURNED if back else TARGET) if last else "",
            do=partial(do, cluster),
            before=follow if number == 1 else None,
        )
