"""Faults of machines and of the network between them; only the lab can cause them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from meshproof.core.concurrency import together
from meshproof.faults.transient import FaultContext, TransientFault, transient_fault
from meshproof.mesh.handles import Cluster


def cut_links(
    fault_context: FaultContext, a: Cluster, b: Cluster, *, one_way: bool = False
) -> AbstractContextManager[TransientFault]:
    """Drop all traffic between two clusters, or only that of connections that `a` opens."""
    machine_control = fault_context.require_machine_control("cutting the link between clusters")
    what = f"link from {a} to {b} cut one way" if one_way else f"link between {a} and {b} cut"
    undo = {"do": "unblock"}
    return transient_fault(
        fault_context,
        "cut_links",
        what,
        [(a, undo)],
        lambda: machine_control.cut(a.name, b.name, one_way=one_way),
        machine=True,
    )


def stop_api_servers(
    fault_context: FaultContext, clusters: Sequence[Cluster]
) -> AbstractContextManager[TransientFault]:
    """Kill the API servers of these clusters at once; recovered when they respond again."""
    machine_control = fault_context.require_machine_control("stopping an API server")

    def break_it() -> None:
        together(lambda cluster: machine_control.stop_api_server(cluster.name), clusters)

    what = f"API server of {', '.join(map(str, clusters))} stopped"
    undos = [(cluster, {"do": "start"}) for cluster in clusters]
    return transient_fault(fault_context, "stop_api_servers", what, undos, break_it, machine=True)


def freeze_cluster(fault_context: FaultContext, cluster: Cluster) -> AbstractContextManager[TransientFault]:
    """SIGSTOP every process of a cluster; recovered when its API server responds again."""
    machine_control = fault_context.require_machine_control("freezing a cluster")
    what = f"{cluster} frozen"
    undo = {"do": "thaw"}
    return transient_fault(
        fault_context,
        "freeze_cluster",
        what,
        [(cluster, undo)],
        lambda: machine_control.freeze(cluster.name),
        machine=True,
    )


def lose_cluster(fault_context: FaultContext, cluster: Cluster) -> AbstractContextManager[TransientFault]:
    """Kill every process of a cluster; undo restarts its machine with its data and waits for its API server."""
    machine_control = fault_context.require_machine_control("losing a cluster")
    what = f"{cluster} lost"
    undo = {"do": "revive"}
    return transient_fault(
        fault_context, "lose_cluster", what, [(cluster, undo)], lambda: machine_control.lose(cluster.name), machine=True
    )
