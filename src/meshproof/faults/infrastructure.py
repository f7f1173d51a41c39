"""Faults of machines and of the network between them, which only their owner can cause: the lab."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

from meshproof.core.concurrency import together
from meshproof.faults.transient import Bench, Strike, strike
from meshproof.mesh.handles import Cluster


def cut_links(bench: Bench, a: Cluster, b: Cluster, *, one_way: bool = False) -> AbstractContextManager[Strike]:
    """Drop everything between two clusters, or only what `a` sends in connections of its own."""
    links = bench.machines("cutting the link between clusters")
    what = f"link from {a} to {b} cut one way" if one_way else f"link between {a} and {b} cut"
    undo = {"do": "unblock"}
    return strike(
        bench, "cut_links", what, [(a, undo)], lambda: links.cut(a.name, b.name, one_way=one_way), machine=True
    )


def stop_api_servers(bench: Bench, clusters: Sequence[Cluster]) -> AbstractContextManager[Strike]:
    """Kill the API servers of these clusters, all at once; back when they answer again."""
    links = bench.machines("stopping an API server")

    def inflict() -> None:
        together(lambda cluster: links.stop_api_server(cluster.name), clusters)

    what = f"API server of {', '.join(map(str, clusters))} stopped"
    undos = [(cluster, {"do": "start"}) for cluster in clusters]
    return strike(bench, "stop_api_servers", what, undos, inflict, machine=True)


def freeze_cluster(bench: Bench, cluster: Cluster) -> AbstractContextManager[Strike]:
    """SIGSTOP every process of a cluster; back when its API server answers again."""
    links = bench.machines("freezing a cluster")
    what = f"{cluster} frozen"
    undo = {"do": "thaw"}
    return strike(bench, "freeze_cluster", what, [(cluster, undo)], lambda: links.freeze(cluster.name), machine=True)


def lose_cluster(bench: Bench, cluster: Cluster) -> AbstractContextManager[Strike]:
    """Kill every process of a cluster; healing starts its machine with its data, back when its API server answers."""
    links = bench.machines("losing a cluster")
    what = f"{cluster} lost"
    undo = {"do": "revive"}
    return strike(bench, "lose_cluster", what, [(cluster, undo)], lambda: links.lose(cluster.name), machine=True)
