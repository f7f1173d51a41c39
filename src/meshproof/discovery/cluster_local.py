"""A host that every cluster answers for itself: the API server."""

from __future__ import annotations

from meshproof.mesh.objects import EndpointFacts

KUBERNETES = "outbound|443||kubernetes.default.svc.cluster.local"
"""Envoy's name for the cluster of the API server's Service."""


def ready_keys(endpoints: tuple[EndpointFacts, ...]) -> frozenset[str]:
    """`address:port` of the ready ones."""
    return frozenset(f"{e.address}:{e.port}" for e in endpoints if e.ready)


def local_problems(seen: frozenset[str], own: frozenset[str], shared: int, clusters: int) -> list[str]:
    """What the client has for the cluster-local host against its cluster's own; `shared` endpoints has the control."""
    problems = [f"is led to {key}, which is not its own cluster's" for key in sorted(seen - own)]
    problems += [f"is not led to {key}" for key in sorted(own - seen)]
    if shared < clusters:
        problems.append(f"has {shared} endpoints of a service that {clusters} clusters have: this proves nothing")
    return problems
