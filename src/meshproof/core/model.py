"""Topology as data: which clusters, in which role, on which network, and who controls whom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import permutations
from pathlib import Path
from typing import Generic, NewType, Protocol, TypeVar

from meshproof.core import names

ClusterName = NewType("ClusterName", str)
NetworkName = NewType("NetworkName", str)


class Role(StrEnum):
    """What a cluster is to the mesh: `primary` runs an istiod of its own, `remote` is controlled from a primary."""

    PRIMARY = "primary"
    REMOTE = "remote"


@dataclass(frozen=True, slots=True)
class GatewayRef:
    """Where a gateway is: `name` is that of its Service, and of its Deployment where meshproof makes it."""

    namespace: str
    name: str

    @property
    def label(self) -> str:
        """The label `istio` of its pods where nobody chose another (chart gateway, _helpers.tpl)."""
        return self.name.removeprefix("istio-")

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


INGRESS = GatewayRef(names.SYSTEM_NAMESPACE, names.INGRESS)
EAST_WEST = GatewayRef(names.SYSTEM_NAMESPACE, names.EAST_WEST)
"""Where these gateways are unless a topology says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSpec:
    """One cluster of a topology.

    `control_plane` is the cluster whose istiod controls this one: itself for a primary.
    `app_version` is the version of the demonstration service that runs here (`v1`, `v2`, ...).
    `pods` is the range of pod addresses (CIDR), if the topology fixes one. `revision` is that of the istiod that
    controls this cluster. `context` is the context of a kubeconfig that leads to it, if the topology names one.
    `ingress` is its ingress gateway, None if it has none; `east_west` its east-west gateway, where the topology needs
    one.
    """

    name: ClusterName
    role: Role
    network: NetworkName
    control_plane: ClusterName
    app_version: str
    pods: str | None = None
    revision: str = names.DEFAULT_REVISION
    context: str | None = None
    ingress: GatewayRef | None = INGRESS
    east_west: GatewayRef = EAST_WEST

    @property
    def mesh_namespaces(self) -> tuple[str, ...]:
        """Where istiod and the gateways are, each once."""
        ingress = (self.ingress.namespace,) if self.ingress else ()
        return tuple(dict.fromkeys((names.SYSTEM_NAMESPACE, *ingress, self.east_west.namespace)))

    @property
    def proxy_namespaces(self) -> tuple[str, ...]:
        """Where proxies are that stay: gateways, the demonstration service, the client in the mesh; istiod as well."""
        return (*self.mesh_namespaces, names.APP_NAMESPACE, names.CLIENT_NAMESPACE)

    @property
    def istiod(self) -> str:
        """The name of istiod's Service here, and in a primary of its Deployment."""
        return names.of_revision(names.ISTIOD, self.revision)

    @property
    def injection_labels(self) -> dict[str, str]:
        """What a namespace must be labelled with, so that its pods get a sidecar."""
        if self.revision == names.DEFAULT_REVISION:
            return {"istio-injection": "enabled"}
        return {names.REVISION_LABEL: self.revision}


class TopologyMember(Protocol):
    """What a cluster of a topology and a live one have in common."""

    @property
    def name(self) -> ClusterName: ...
    @property
    def role(self) -> Role: ...
    @property
    def network(self) -> NetworkName: ...
    @property
    def control_plane(self) -> ClusterName: ...


M = TypeVar("M", bound=TopologyMember)


class Members(Generic[M]):
    """Clusters, in the topology's order, and which of them have to do with each other."""

    __slots__ = ()
    clusters: tuple[M, ...]

    @property
    def primaries(self) -> tuple[M, ...]:
        return tuple(c for c in self.clusters if c.role is Role.PRIMARY)

    @property
    def remotes(self) -> tuple[M, ...]:
        return tuple(c for c in self.clusters if c.role is Role.REMOTE)

    def cluster(self, name: str) -> M:
        """The cluster of that name; `KeyError` if there is none."""
        for candidate in self.clusters:
            if candidate.name == name:
                return candidate
        raise KeyError(name)

    def control_plane_of(self, cluster: M) -> M:
        return self.cluster(cluster.control_plane)

    def controlled_by(self, primary: M) -> tuple[M, ...]:
        """The clusters whose sidecars connect to `primary`'s istiod, `primary` included."""
        return tuple(c for c in self.clusters if c.control_plane == primary.name)

    def crosses_network(self, a: M, b: M) -> bool:
        return a.network != b.network

    @property
    def pairs(self) -> Iterator[tuple[M, M]]:
        """Every ordered pair of different clusters (client, server)."""
        return permutations(self.clusters, 2)

    @property
    def pairs_across_networks(self) -> Iterator[tuple[M, M]]:
        return ((a, b) for a, b in self.pairs if self.crosses_network(a, b))


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology(Members[ClusterSpec]):
    """A whole topology; loaded by `meshproof.core.topology.load_topology`, which has checked every rule below."""

    name: str
    title: str
    mesh_id: str
    trust_domain: str
    clusters: tuple[ClusterSpec, ...]
    source: Path

    @property
    def networks(self) -> tuple[NetworkName, ...]:
        """Each network once, in the order of the clusters."""
        return tuple(dict.fromkeys(c.network for c in self.clusters))

    def remotes_of(self, primary: ClusterSpec) -> tuple[ClusterSpec, ...]:
        return tuple(c for c in self.controlled_by(primary) if c.name != primary.name)

    @property
    def pairs_on_one_network(self) -> Iterator[tuple[ClusterSpec, ClusterSpec]]:
        return ((a, b) for a, b in self.pairs if not self.crosses_network(a, b))

    def exposes_services(self, cluster: ClusterSpec) -> bool:
        """Whether 15443 must be open here: some other cluster is on another network."""
        return any(self.crosses_network(cluster, other) for other in self.clusters)

    def exposes_istiod(self, cluster: ClusterSpec) -> bool:
        """Whether 15012 and 15017 must be open here: remotes dial in."""
        return cluster.role is Role.PRIMARY and bool(self.remotes_of(cluster))

    def needs_east_west_gateway(self, cluster: ClusterSpec) -> bool:
        return self.exposes_services(cluster) or self.exposes_istiod(cluster)


@dataclass(frozen=True, slots=True, kw_only=True)
class PullSecret:
    """A Secret by which images are pulled; its text is `NAMESPACE/NAME`."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"
