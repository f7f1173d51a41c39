"""The stage while it is there: made, ready, and removed."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import yaml

from meshproof.clients.kube import Json
from meshproof.errors import Broken, ClaimFailed
from meshproof.fresh import namespace_for_probes, ready_pod
from meshproof.install.manifests import core, metadata
from meshproof.istio_config import PROBE_DOMAIN, in_config_clusters
from meshproof.mesh import Cluster, Mesh
from meshproof.parallel import together
from meshproof.stage.config import configuration
from meshproof.stage.envoy import envoy_config
from meshproof.stage.parts import (
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
    service_of,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The probes while they are there. `addresses` has the pod address by cluster name."""

    mesh: Mesh
    namespace: str
    addresses: dict[str, str]

    def url(self, service: str, path: str = "/", *, port: int = PORT_HTTP) -> str:
        """How a mesh client calls a service of the stage."""
        return f"http://{service}.{self.namespace}.svc.cluster.local:{port}{path}"

    def host(self, service: str) -> str:
        """The host name under which the ingress gateways know a service of the stage."""
        return f"{service}.{self.namespace}.{PROBE_DOMAIN}"


@contextmanager
def stage(mesh: Mesh) -> Iterator[Stage]:
    """Probes in all clusters, ready, and their configuration applied; everything goes with the namespace.

    Raises `Broken` if a probe cannot be made: then nothing is known about what it was to prove.
    """
    namespace = f"{PREFIX}{uuid.uuid4().hex[:8]}"
    try:
        together(lambda cluster: cluster.kube.create(namespace_for_probes(cluster, namespace)), mesh.clusters)
        together(lambda item: item[0].kube.apply(item[1]), _objects(mesh, namespace))
        together(lambda item: item[0].kube.apply(item[1]), in_config_clusters(mesh, configuration(mesh, namespace)))
        pods = together(lambda cluster: _probe(mesh, cluster, namespace), mesh.clusters)
        yield Stage(mesh=mesh, namespace=namespace, addresses={pod[0]: pod[1] for pod in pods})
    finally:
        together(lambda cluster: cluster.kube.delete("Namespace", namespace), mesh.clusters)


def _objects(mesh: Mesh, namespace: str) -> list[tuple[Cluster, Json]]:
    services = [_service(name, namespace, {"app": APP}) for name in SHARED]
    services += [_service(service_of(c), namespace, {"app": APP, CLUSTER_LABEL: c.name}) for c in mesh.clusters]
    return [
        *((cluster, service) for cluster in mesh.clusters for service in services),
        *((cluster, _config_map(cluster, namespace)) for cluster in mesh.clusters),
    ]


def _service(name: str, namespace: str, selector: dict[str, str]) -> Json:
    ports = [
        {"name": "http", "port": PORT_HTTP, "targetPort": LISTEN_HTTP},
        {"name": "grpc", "port": PORT_GRPC, "targetPort": LISTEN_GRPC},
        {"name": "tcp", "port": PORT_TCP, "targetPort": LISTEN_TCP},
    ]
    return core("Service", metadata(name, namespace), spec={"selector": selector, "ports": ports})


def _probe(mesh: Mesh, cluster: Cluster, namespace: str) -> tuple[str, str]:
    try:
        pod = ready_pod(cluster, namespace, _pod(cluster, namespace, mesh.toolbox.images["app"]))
    except ClaimFailed as problem:
        raise Broken("the probe services of these claims", str(problem), "see CONTROL-02, which proves this") from None
    if pod.proxy_env is None:
        raise Broken(f"the probe on {cluster}", "it was started without a sidecar", "see CONTROL-02")
    return cluster.name, pod.address


def _pod(cluster: Cluster, namespace: str, image: str) -> Json:
    container = {
        "name": APP,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["envoy", "-c", "/etc/envoy/envoy.yaml", "--concurrency", "1", "--disable-hot-restart"],
        "readinessProbe": {"httpGet": {"path": "/", "port": LISTEN_HTTP}, "periodSeconds": 1, "timeoutSeconds": 2},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/envoy", "readOnly": True}],
    }
    meta = metadata(APP, namespace, labels={"app": APP, CLUSTER_LABEL: cluster.name})
    spec = {
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": APP}}],
    }
    return core("Pod", meta, spec=spec)


def _config_map(cluster: Cluster, namespace: str) -> Json:
    text = yaml.safe_dump(envoy_config(cluster.name), sort_keys=False)
    return core("ConfigMap", metadata(APP, namespace), data={"envoy.yaml": text})
