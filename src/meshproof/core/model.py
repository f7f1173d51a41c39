"""Topology as data: which clusters, in which role, on which network, with which control plane."""

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
    """A cluster's role in the mesh: a `primary` runs its own istiod, a `remote` is controlled by a primary."""

    PRIMARY = "primary"
    REMOTE = "remote"


@dataclass(frozen=True, slots=True)
class GatewayRef:
    """A gateway: `name` is that of its Service, and of its Deployment where meshproof creates it."""

    namespace: str
    name: str

    @property
    def label(self) -> str:
        """The default value of the label `istio` of its pods (chart gateway, _helpers.tpl)."""
        return self.name.removeprefix("istio-")

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


INGRESS = GatewayRef(names.SYSTEM_NAMESPACE, names.INGRESS)
EAST_WEST = GatewayRef(names.SYSTEM_NAMESPACE, names.EAST_WEST)
"""The gateways' default locations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSpec:
    """One cluster of a topology.

    `control_plane` is the cluster whose istiod controls this one: itself for a primary.
    `app_version` is the version of the demonstration service that runs here (`v1`, `v2`, ...).
    `pods` is the range of pod addresses (CIDR), if the topology fixes one. `revision` is that of the istiod that
    controls this cluster. `context` is its context in a kubeconfig, if the topology names one.
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
        """The namespaces of istiod and the gateways, without duplicates."""
        ingress = (self.ingress.namespace,) if self.ingress else ()
        return tuple(dict.fromkeys((names.SYSTEM_NAMESPACE, *ingress, self.east_west.namespace)))

    @property
    def proxy_namespaces(self) -> tuple[str, ...]:
        """The namespaces of long-lived proxies (gateways, demonstration service, in-mesh client) and of istiod."""
        return (*self.mesh_namespaces, names.APP_NAMESPACE, names.CLIENT_NAMESPACE)

    @property
    def istiod(self) -> str:
        """The name of istiod's Service here, and in a primary of its Deployment."""
        return names.of_revision(names.ISTIOD, self.revision)

    @property
    def injection_labels(self) -> dict[str, str]:
        """The namespace labels that enable sidecar injection."""
        if self.revision == names.DEFAULT_REVISION:
            return {"istio-injection": "enabled"}
        return {names.REVISION_LABEL: self.revision}


class TopologyMember(Protocol):
    """Attributes shared by a cluster of a topology and a live cluster."""

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
    """Clusters, in the topology's order, and the relations between them."""

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
        """The clusters whose sidecars connect to `primary`'s istiod, including `primary`."""
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
    """A whole topology; loaded by `meshproof.core.topology.load_topology`, which validates it."""

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
        """Whether port 15443 must be open here: some other cluster is on another network."""
        return any(self.crosses_network(cluster, other) for other in self.clusters)

    def exposes_istiod(self, cluster: ClusterSpec) -> bool:
        """Whether ports 15012 and 15017 must be open here: remotes connect to this istiod."""
        return cluster.role is Role.PRIMARY and bool(self.remotes_of(cluster))

    def needs_east_west_gateway(self, cluster: ClusterSpec) -> bool:
        return self.exposes_services(cluster) or self.exposes_istiod(cluster)


@dataclass(frozen=True, slots=True, kw_only=True)
class PullSecret:
    """An image pull secret; its string form is `NAMESPACE/NAME`."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"
