"""Lifecycle of the test bed: created, ready, and deleted."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import yaml

from meshproof.clients.istio.configuration import PROBE_DOMAIN
from meshproof.clients.kubernetes.client import Json
from meshproof.clients.kubernetes.manifests import core, metadata, service
from meshproof.clients.kubernetes.pods import pod_spec
from meshproof.core import names
from meshproof.core.concurrency import Pool, together
from meshproof.core.deadlines import DEADLINES
from meshproof.core.errors import ClaimFailed
from meshproof.mesh.configuration import apply_config
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.objects import PodFacts
from meshproof.workloads.app import client_container, envoy_container
from meshproof.workloads.ephemeral import ready_pod
from meshproof.workloads.namespaces import make_namespaces
from meshproof.workloads.testbed.configuration import configurations
from meshproof.workloads.testbed.envoy import probe_envoy_config
from meshproof.workloads.testbed.names import (
    APP,
    CLUSTER_LABEL,
    LISTEN_GRPC,
    LISTEN_HTTP,
    LISTEN_TCP,
    PORT_GRPC,
    PORT_HTTP,
    PORT_TCP,
    PREFIX,
    SHARED,
    path_service_of,
    service_of,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TestBed:
    """The running probes. `addresses` has the pod address by cluster name."""

    mesh: Mesh
    namespace: str
    addresses: dict[str, str]

    def url(self, service: str, path: str = "/", *, port: int = PORT_HTTP) -> str:
        """The URL of a test bed service for clients in the mesh."""
        return f"http://{names.fqdn(service, self.namespace)}:{port}{path}"

    def host(self, service: str) -> str:
        """The host name of a test bed service at the ingress gateways."""
        return f"{service}.{self.namespace}.{PROBE_DOMAIN}"


class FreshPods:
    """New pods in a new namespace of each cluster, and the test bed that consists of them; both start in the
    background.

    Methods wait for what they return. Pods start while the test bed's configuration is applied, so the results are
    independent of each other.
    """

    def __init__(self, mesh: Mesh, namespace: str, pool: Pool) -> None:
        self._mesh = mesh
        self.namespace = namespace
        made = pool.submit(self._make_namespaces, mesh.clusters)
        self._pods = {c.name: pool.submit(partial(self._start, made), c) for c in mesh.clusters}
        self._configured = pool.submit(self._configure, made)

    def of(self, cluster: Cluster) -> PodFacts:
        """The new pod when it is ready, with or without a sidecar.

        Raises `ClaimFailed` if istiod writes no root certificate, the pod is refused, or it is not ready in time.
        """
        return self._pods[cluster.name].result()

    def test_bed(self) -> TestBed:
        """The test bed, with probes in all clusters, and the configuration applied.

        Raises `ClaimFailed` if the mesh refuses a probe or its configuration, or a probe does not get ready: then the
        claim does not hold for new services. Other errors are raised unchanged.
        """
        pods = {cluster.name: self._probe(cluster) for cluster in self._mesh.clusters}
        self._configured.result()
        addresses = {str(name): pod.address for name, pod in pods.items()}
        return TestBed(mesh=self._mesh, namespace=self.namespace, addresses=addresses)

    def _make_namespaces(self, clusters: tuple[Cluster, ...]) -> None:
        make_namespaces(self._mesh, clusters, self.namespace, guarded=True)

    def _start(self, made: Future[None], cluster: Cluster) -> PodFacts:
        made.result()
        cluster.kube.apply(_config_map(cluster, self.namespace))
        return ready_pod(self._mesh, cluster, self.namespace, _pod(cluster, self.namespace, self._mesh.toolbox.images))

    def _configure(self, made: Future[None]) -> None:
        made.result()
        together(lambda item: item[0].kube.apply(item[1]), _services(self._mesh, self.namespace))
        together(lambda item: apply_config(*item), configurations(self._mesh, self.namespace))

    def _probe(self, cluster: Cluster) -> PodFacts:
        try:
            pod = self.of(cluster)
        except ClaimFailed as problem:
            text = "no new service can be started for this test; see CONTROL-02"
            raise ClaimFailed(f"{text}\n  last seen   {problem}") from None
        if pod.proxy_env is None:
            raise ClaimFailed(f"the service to prove it on was started without a sidecar on {cluster}; see CONTROL-02")
        return pod


@contextmanager
def fresh_pods(mesh: Mesh) -> Iterator[FreshPods]:
    """New pods in all clusters and their test bed, starting in the background; deleted with their namespace."""
    namespace = f"{PREFIX}{uuid.uuid4().hex[:8]}"
    pool = Pool(len(mesh.clusters) + 2, name="test-bed")
    try:
        yield FreshPods(mesh, namespace, pool)
    finally:
        pool.close(timeout_s=DEADLINES.claim_s)
        together(lambda cluster: cluster.kube.delete("Namespace", namespace), mesh.clusters)


def _services(mesh: Mesh, namespace: str) -> list[tuple[Cluster, Json]]:
    services = [_service(name, namespace, {"app": APP}) for name in SHARED]
    services += [
        _service(name_of(c), namespace, {"app": APP, CLUSTER_LABEL: c.name})
        for c in mesh.clusters
        for name_of in (service_of, path_service_of)
    ]
    return [(cluster, service) for cluster in mesh.clusters for service in services]


def _service(name: str, namespace: str, selector: dict[str, str]) -> Json:
    ports = [
        {"name": "http", "port": PORT_HTTP, "targetPort": LISTEN_HTTP},
        {"name": "grpc", "port": PORT_GRPC, "targetPort": LISTEN_GRPC},
        {"name": "tcp", "port": PORT_TCP, "targetPort": LISTEN_TCP},
    ]
    return service(name, namespace, {"selector": selector, "ports": ports})


DNS_CAPTURE: Final = {"proxyMetadata": {"ISTIO_META_DNS_CAPTURE": "true"}}
"""Has the sidecar resolve the DNS queries of its pod; cluster DNS knows the services of its own cluster only."""


def _pod(cluster: Cluster, namespace: str, images: Mapping[str, str]) -> Json:
    meta = metadata(APP, namespace, labels={"app": APP, CLUSTER_LABEL: cluster.name})
    meta["annotations"] = {"proxy.istio.io/config": json.dumps(DNS_CAPTURE)}
    containers = [envoy_container(APP, images["app"], LISTEN_HTTP), client_container(images["client"])]
    spec = pod_spec(containers, grace_s=0, volumes=[{"name": "config", "configMap": {"name": APP}}])
    return core("Pod", meta, spec=spec)


def _config_map(cluster: Cluster, namespace: str) -> Json:
    text = yaml.safe_dump(probe_envoy_config(cluster.name), sort_keys=False)
    return core("ConfigMap", metadata(APP, namespace), data={"envoy.yaml": text})
