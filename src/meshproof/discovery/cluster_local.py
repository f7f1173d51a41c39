"""Cluster-local hosts, by the example of the API server."""

from __future__ import annotations

from meshproof.mesh.objects import EndpointFacts

KUBERNETES = "outbound|443||kubernetes.default.svc.cluster.local"
"""Envoy's name for the cluster of the API server's Service."""


def ready_keys(endpoints: tuple[EndpointFacts, ...]) -> frozenset[str]:
    """`address:port` of the ready ones."""
    return frozenset(f"{e.address}:{e.port}" for e in endpoints if e.ready)


def local_problems(
    seen: frozenset[str], own: frozenset[str], shared: int, clusters: int, *, hidden: bool = False
) -> list[str]:
    """How the client's endpoints of the cluster-local host (`seen`) differ from its cluster's `own`.

    If the mesh's settings hide the host from the client, its proxy has no endpoint at all. `shared` is the positive
    control: how many of the `clusters` that have a service its endpoints lead to.
    """
    problems = [f"has endpoint {key}, which is not in its own cluster" for key in sorted(seen - own)]
    problems += [] if hidden and not seen else [f"does not have endpoint {key}" for key in sorted(own - seen)]
    if shared < clusters:
        text = f"it has endpoints in {shared} of {clusters} clusters that have a service"
        problems.append(f"positive control failed: {text}")
    return problems
