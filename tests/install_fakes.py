"""Clusters that are dictionaries: the API server's answers, and what controllers and istiod would do for an install."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from meshproof.clients.istio.istioctl import READER_ACCOUNT, Istioctl
from meshproof.clients.kubernetes.client import _KINDS, ApiError, Json, Kube, path_of
from meshproof.core.model import Topology
from meshproof.core.names import ROOT_MAP, SYSTEM_NAMESPACE
from meshproof.core.topology import load_topology
from meshproof.install.steps import Build
from meshproof.mesh.access import ClusterAccess, Toolbox
from meshproof.mesh.handles import Cluster, Mesh

TOOLBOX = Toolbox(
    istioctl=Path("/nowhere/istioctl"),
    istio_version="1.31.0",
    hub="registry.example/istio",
    tag="1.31.0",
    images={"app": "app:1", "client": "client:1"},
    istio_values={"values": {"pilot": {"env": {"PILOT_ENABLE_ALPN_FILTER": "false"}}}},
    data_plane="a fake",
)

THREE_CLUSTERS = """\
title: Two primaries and a remote on two networks
mesh_id: mesh1
trust_domain: cluster.local
clusters:
  - {name: east, role: primary, network: net-a, app_version: v1}
  - {name: west, role: primary, network: net-b, app_version: v2}
  - {name: edge, role: remote, control_plane: west, network: net-b, app_version: v3}
"""


def three_clusters(folder: Path) -> Topology:
    path = folder / "three.yaml"
    path.write_text(THREE_CLUSTERS)
    return load_topology(str(path))


def _is_collection(path: str) -> bool:
    flat = re.sub(r"/namespaces/[^/]+(?=/)", "", path)
    return flat in {path_of(kind) for kind in _KINDS}


class FakeKube(Kube):
    """Answers requests from `objects` (by API path), and keeps every write in `writes`."""

    def __init__(self, name: str) -> None:
        super().__init__(Path("/nowhere/kubeconfig"), name)
        self.objects: dict[str, Json] = {}
        self.writes: list[str] = []
        self.lock = threading.RLock()
        self.deployments_get_ready = True

    @property
    def server(self) -> str:
        return f"https://{self.name}.example:6443"

    def put(self, manifest: Json) -> None:
        meta = manifest["metadata"]
        self.objects[path_of(manifest["kind"], meta.get("namespace"), meta["name"])] = manifest

    def request(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        timeout_s: float = 15.0,
    ) -> bytes:
        with self.lock:
            if method != "GET":
                self.writes.append(f"{method} {path}")
            answer = getattr(self, f"_{method.lower()}")(path, dict(query or {}), body)
            return json.dumps(answer).encode()

    def watch(self, path: str, *, timeout_s: float, **query: str) -> Iterator[Json]:
        yield from ()

    def _get(self, path: str, query: dict[str, str], _: object) -> Json:
        if path in self.objects:
            return self.objects[path]
        if _is_collection(path):
            return {"items": [found for key, found in self.objects.items() if self._in(key, path, query)]}
        raise ApiError(f"GET {path}", 404, "not found")

    def _in(self, key: str, collection: str, query: dict[str, str]) -> bool:
        flat = re.sub(r"/namespaces/[^/]+(?=/)", "", key)
        if not (key.rpartition("/")[0] == collection or flat.rpartition("/")[0] == collection):
            return False
        wanted = [pair.split("=", 1) for pair in query.get("labelSelector", "").split(",") if pair]
        labels = self.objects[key]["metadata"].get("labels") or {}
        return all(labels.get(name) == value for name, value in wanted)

    def _patch(self, path: str, _: dict[str, str], body: Any) -> Json:
        new = {**self.objects.get(path, {}), **body}
        if new["kind"] == "Service" and new["spec"].get("type") == "LoadBalancer":
            new["status"] = {"loadBalancer": {"ingress": [{"ip": f"198.18.0.{len(self.objects)}"}]}}
        if new["kind"] == "Deployment" and self.deployments_get_ready:
            counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), 1)
            new["status"] = {"observedGeneration": 1, **counts}
        self.objects[path] = new
        return new

    def _post(self, path: str, query: dict[str, str], body: Any) -> Json:
        assert query == {"dryRun": "All"}, "an install creates nothing but dry runs"
        hooks = self._get("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations", {}, None)["items"]
        if not all(hook["webhooks"][0]["clientConfig"].get("caBundle") for hook in hooks):
            raise ApiError(f"POST {path}", 500, "failed calling webhook: x509: certificate signed by unknown authority")
        return {**body, "spec": {"containers": [{"name": "istio-proxy"}]}}

    def _delete(self, path: str, _: dict[str, str], __: object) -> Json:
        if path.endswith("/pods"):
            return {}
        if path not in self.objects:
            raise ApiError(f"DELETE {path}", 404, "not found")
        inside = f"{path.removeprefix('/api/v1')}/"
        self.objects = {key: found for key, found in self.objects.items() if key != path and inside not in key}
        return {}


class FakeIstioctl(Istioctl):
    """Leaves in the cluster what istioctl and then istiod would."""

    def __init__(self, build: FakeBuild, cluster: Cluster) -> None:
        super().__init__(Path("/nowhere/istioctl"), Path("/nowhere/kubeconfig"), cluster.name)
        self._build = build
        self._cluster = cluster

    def install(self, operator: Mapping[str, Any], *, timeout_s: float = 180.0) -> str:
        kube = fake_of(self._cluster)
        self._build.operators[self._cluster.name] = dict(operator)
        with kube.lock:
            kube.put({"kind": "ServiceAccount", "metadata": {"name": READER_ACCOUNT, "namespace": SYSTEM_NAMESPACE}})
            kube.put({"kind": "ClusterRole", "metadata": {"name": "istio-reader-clusterrole-istio-system"}})
            kube.put({"kind": "CustomResourceDefinition", "metadata": {"name": "gateways.networking.istio.io"}})
            kube.put(
                {
                    "kind": "MutatingWebhookConfiguration",
                    "metadata": {"name": "istio-sidecar-injector", "labels": {"app": "sidecar-injector"}},
                    "webhooks": [{"name": "namespace.sidecar-injector.istio.io", "clientConfig": {}}],
                }
            )
        if self._cluster.is_primary:
            kube.put({"kind": "Deployment", "metadata": {"name": "istiod", "namespace": SYSTEM_NAMESPACE}})
            istiod_takes_over(kube)
        return ""

    def create_remote_secret(self, name: str, server: str, *, timeout_s: float = 30.0) -> Json:
        meta = {"name": f"istio-remote-secret-{name}", "namespace": SYSTEM_NAMESPACE}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {name: server}}


class FakeBuild(Build):
    """A build whose istioctl is fake; a remote's injection begins to work when its primary gets the secret."""

    def __init__(self, mesh: Mesh) -> None:
        super().__init__(mesh)
        self.operators: dict[str, Json] = {}

    def istioctl(self, cluster: Cluster) -> Istioctl:
        return FakeIstioctl(self, cluster)

    def apply_remote_secret(self, cluster: Cluster, primary: Cluster) -> None:
        super().apply_remote_secret(cluster, primary)
        if cluster.spec.control_plane == primary.name:
            istiod_takes_over(fake_of(cluster))


def istiod_takes_over(kube: FakeKube) -> None:
    """What an istiod does in a cluster that it controls: trust for the webhooks, its root in every namespace."""
    with kube.lock:
        for found in list(kube.objects.values()):
            if found["kind"] == "MutatingWebhookConfiguration":
                found["webhooks"][0]["clientConfig"]["caBundle"] = "cm9vdA=="
            if found["kind"] == "Namespace":
                labels = {"istio.io/config": "true"}
                meta = {"name": ROOT_MAP, "namespace": found["metadata"]["name"], "labels": labels}
                kube.put({"kind": "ConfigMap", "metadata": meta, "data": {"root-cert.pem": "root"}})


def fake_mesh(topology: Topology) -> Mesh:
    clusters = []
    for spec in topology.clusters:
        kube = FakeKube(spec.name)
        access = ClusterAccess(
            name=spec.name,
            kubeconfig=Path("/nowhere/kubeconfig"),
            context=spec.name,
            server_for_peers=kube.server,
        )
        kube.put({"kind": "Namespace", "metadata": {"name": "default"}})
        clusters.append(Cluster(spec=spec, access=access, kube=kube))
    return Mesh(topology=topology, clusters=tuple(clusters), toolbox=TOOLBOX)


def fake_of(cluster: Cluster) -> FakeKube:
    assert isinstance(cluster.kube, FakeKube)
    return cluster.kube


def parsed(text: str) -> Any:
    return yaml.safe_load(text)
