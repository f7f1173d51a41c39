"""Clients with certificates that live for seconds: they show in half a minute what a day-long outage does to workloads.

A proxy's agent requests certificates with the lifetime `SECRET_TTL` (istio.io/istio, pkg/security and
security/pkg/nodeagent/cache: 24 h by default), and renews them after half of it (`SECRET_GRACE_PERIOD_RATIO`). Without
its istiod it keeps the current certificate until that expires.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from meshproof.clients import envoy_admin as envoy
from meshproof.clients.istio.configuration import istio
from meshproof.clients.kubernetes.client import Json
from meshproof.clients.kubernetes.manifests import core, metadata
from meshproof.clients.kubernetes.pods import pod_spec
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.errors import Broken
from meshproof.core.waiting import NotYet
from meshproof.load.generator import DEFAULT
from meshproof.load.history import Mark
from meshproof.load.pod_generator import PodLoad
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.objects import PodFacts
from meshproof.mesh.snapshot import Snapshot
from meshproof.workloads.app import client_container
from meshproof.workloads.ephemeral import PREFIX, ready_pod
from meshproof.workloads.namespaces import make_namespaces

LIFE_S: Final = 20
NAME: Final = "meshproof-short-lived"


@dataclass(slots=True, kw_only=True)
class ShortLived:
    """One client, with its load on the application.

    `ends` is when the certificate expires that it had as istiod stopped; `kept`: it still had that one when the outage
    ended. `renewed_s` is how many seconds after istiod's return it had a new one; None: not within the bound.
    """

    cluster: Cluster
    pod: PodFacts
    load: PodLoad
    ends: Mark | None = None
    kept: bool = False
    renewed_s: float | None = None

    @property
    def source(self) -> str:
        """Its name in the history."""
        return source_of(self.cluster)

    @property
    def over(self) -> Mark:
        """When that certificate expired. Raises `Broken` if it was never read."""
        if self.ends is None:
            raise Broken(f"certificate of {self.cluster} {self.pod}", "it was not read while istiod was down")
        return self.ends

    def certificate_ends(self) -> datetime:
        """When the certificate expires that its proxy uses now."""
        return envoy.identity_of(self.cluster.kube, self.pod.namespace, self.pod.name).leaf.not_valid_after_utc

    def note_end(self) -> None:
        now, ends = Mark.now(), self.certificate_ends().timestamp()
        self.ends = now.at(now.monotonic_s + ends - now.wall)

    def note_kept(self) -> None:
        """Raises `Broken` if its certificate has not expired yet: then the outage shows nothing about expiry."""
        if self.over.wall > time.time():
            raise Broken(f"certificate of {self.cluster} {self.pod}", "it did not expire while istiod was down")
        self.kept = abs(self.certificate_ends().timestamp() - self.over.wall) < 1

    def must_be_renewed(self) -> None:
        """Raises `NotYet` while its certificate is expired."""
        ends = self.certificate_ends()
        if ends <= datetime.now(UTC):
            raise NotYet(f"{self.cluster} {self.pod}: its certificate expired at {ends:%H:%M:%S} UTC")


def source_of(cluster: Cluster) -> str:
    return f"{cluster} short-lived"


@contextmanager
def short_lived_clients(mesh: Mesh, clusters: Sequence[Cluster]) -> Iterator[tuple[ShortLived, ...]]:
    """A ready client in each of these clusters, in a namespace of its own that is deleted afterwards.

    Each request uses a new connection, so that the certificate is verified; existing connections would outlive it.
    """
    namespace = f"{PREFIX}{uuid.uuid4().hex[:8]}"
    readers = {mesh.control_plane_of(cluster) for cluster in clusters}
    everywhere = [cluster for cluster in mesh.clusters if cluster in readers or cluster in clusters]
    try:
        make_namespaces(mesh, everywhere, namespace)
        for reader in readers:
            reader.kube.apply(_new_connections(namespace))
        image = mesh.toolbox.images["client"]
        pods = together(lambda cluster: ready_pod(mesh, cluster, namespace, _pod(namespace, image)), clusters)
        yield tuple(
            ShortLived(cluster=cluster, pod=pod, load=PodLoad(cluster.kube, pod, {source_of(cluster): DEFAULT.url}))
            for cluster, pod in zip(clusters, pods, strict=True)
        )
    finally:
        together(lambda cluster: cluster.kube.delete("Namespace", namespace), everywhere)


def _new_connections(namespace: str) -> Json:
    policy = {"connectionPool": {"http": {"maxRequestsPerConnection": 1}}}
    return istio(
        "DestinationRule", NAME, namespace, {"host": names.APP_FQDN, "exportTo": ["."], "trafficPolicy": policy}
    )


def _pod(namespace: str, image: str) -> Json:
    manifest = core(
        "Pod",
        metadata(NAME, namespace, labels={"app": NAME}),
        spec=pod_spec([client_container(image)], grace_s=0),
    )
    settings = f"proxyMetadata:\n  SECRET_TTL: {LIFE_S}s\n"
    manifest["metadata"]["annotations"] = {"proxy.istio.io/config": settings}
    return manifest


# -- all other proxies ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Remaining:
    """Remaining and total lifetime of a proxy's certificate."""

    left: timedelta
    life: timedelta

    @property
    def share(self) -> float:
        return self.left / self.life

    @property
    def hours(self) -> float:
        return self.left / timedelta(hours=1)


def remaining(snapshot: Snapshot, clusters: Sequence[Cluster]) -> Mapping[str, Remaining]:
    """For every proxy of these clusters, by `cluster namespace/pod`: how long it works without its control plane."""
    now = datetime.now(UTC)
    leaves = {
        f"{cluster} {pod}": identity.leaf
        for cluster, pod, identity in snapshot.identities()
        if cluster in clusters and not names.is_probe_namespace(pod.namespace)
    }
    return {
        proxy: Remaining(left=leaf.not_valid_after_utc - now, life=leaf.not_valid_after_utc - leaf.not_valid_before_utc)
        for proxy, leaf in leaves.items()
    }
