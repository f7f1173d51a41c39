"""Versions of istiods, gateways and sidecars in each cluster during an upgrade."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from meshproof.clients.istio import istiod_debug as istiod
from meshproof.core.concurrency import together
from meshproof.core.versions import Version
from meshproof.mesh.handles import Mesh
from meshproof.mesh.snapshot import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Components:
    """What runs in one cluster: minor versions of its istiods, gateways and sidecars, each once, oldest first."""

    istiods: tuple[str, ...]
    gateways: tuple[str, ...]
    sidecars: tuple[str, ...]

    def __str__(self) -> str:
        parts = {"istiod": self.istiods, "gateways": self.gateways, "sidecars": self.sidecars}
        return ", ".join(f"{what} {'+'.join(versions)}" for what, versions in parts.items() if versions)


def components_of(mesh: Mesh) -> Mapping[str, Components]:
    """Versions by cluster; istiods report their own version and those of their connected proxies."""
    snapshot = Snapshot.take(mesh)
    replicas = [(facts.cluster, pod.name) for facts in snapshot.facts for pod in facts.istiods]
    own_versions = together(lambda each: istiod.version(each[0].kube, each[1]), replicas)
    synced = together(lambda each: istiod.syncz(each[0].kube, each[1]), replicas)
    istiods: defaultdict[str, list[str]] = defaultdict(list)
    for (cluster, _), version in zip(replicas, own_versions, strict=True):
        istiods[cluster.name].append(version)
    mesh_namespaces = {str(cluster): cluster.spec.mesh_namespaces for cluster in mesh.clusters}
    gateways: defaultdict[str, list[str]] = defaultdict(list)
    sidecars: defaultdict[str, list[str]] = defaultdict(list)
    for proxy in (proxy for proxies in synced for proxy in proxies):
        namespace = proxy.proxy.rpartition(".")[2]
        is_gateway = namespace in mesh_namespaces.get(proxy.cluster, ())
        (gateways if is_gateway else sidecars)[proxy.cluster].append(proxy.version)
    return {
        cluster.name: Components(
            istiods=_minors(istiods[cluster.name]),
            gateways=_minors(gateways[cluster.name]),
            sidecars=_minors(sidecars[cluster.name]),
        )
        for cluster in mesh.clusters
    }


def _minors(versions: Iterable[str]) -> tuple[str, ...]:
    found = {version: str(Version.parse(version) or version) for version in versions}
    return tuple(dict.fromkeys(found[version] for version in sorted(found)))
