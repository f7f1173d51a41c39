"""A small mesh as API servers and proxies tell of it, for tests of records."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

from meshproof.clients.kubernetes.client import Json
from meshproof.mesh.handles import Mesh
from meshproof.upgrade.baseline.capture_proxy import parse_parts
from meshproof.upgrade.baseline.model import BaselineRecord, Content, Key, Sample
from meshproof.upgrade.baseline.workload_identity import Raw, directory_of, workload_pods

SHOP = "outbound|80||shop.ns.svc.cluster.local"


def pod(name: str, address: str, *, owner: str = "", made: str = "2026-11-25T10:00:00Z", **spec: object) -> Json:
    """A ready pod with a proxy; `owner` is a Deployment's, whose ReplicaSet has the hash `abc`."""
    controller = {"kind": "ReplicaSet", "name": f"{owner}-abc", "controller": True}
    meta = {"namespace": "ns", "name": name, "creationTimestamp": made, "labels": {"pod-template-hash": "abc"}}
    return {
        "metadata": meta | ({"ownerReferences": [controller]} if owner else {}),
        "spec": {"containers": [{"name": "istio-proxy"}], **spec},
        "status": {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def service(name: str, address: str, external: str = "") -> Json:
    ingress = {"loadBalancer": {"ingress": [{"ip": external}]}} if external else {}
    return {
        "metadata": {"namespace": "ns", "name": name},
        "spec": {"clusterIPs": [address], "type": "LoadBalancer" if external else "ClusterIP", "ports": []},
        "status": ingress,
    }


def endpoint(address: str, *, weight: int = 1, health: str = "HEALTHY") -> Json:
    socket = {"address": address, "port_value": 8080}
    return {
        "endpoint": {"address": {"socket_address": socket}},
        "health_status": health,
        "load_balancing_weight": weight,
    }


def dump(*endpoints: Json, listener: Json | None = None, version: str = "1.31.0-abc", discovery: str = "EDS") -> str:
    """What a proxy answers: fields as they stand in Envoy's definition, and numbers of versions."""
    node = {"metadata": {"ISTIO_VERSION": version}, "user_agent_build_version": {"version": {"major_number": 1}}}
    groups = [{"locality": {"region": "r", "zone": "z"}, "lb_endpoints": [*endpoints]}]
    state = {"version_info": "2026-11-25/7", "listener": listener or {"name": "10.96.0.7_15012"}}
    types: dict[str, Json] = {
        "Bootstrap": {"bootstrap": {"node": node}},
        "Clusters": {"dynamic_active_clusters": [{"version_info": "x", "cluster": {"name": SHOP, "type": discovery}}]},
        "Listeners": {"dynamic_listeners": [{"name": "10.96.0.7_15012", "active_state": state}]},
        "Endpoints": {"dynamic_endpoint_configs": [{"endpoint_config": {"cluster_name": SHOP, "endpoints": groups}}]},
    }
    parts = [{"@type": f"type.googleapis.com/envoy.admin.v3.{kind}ConfigDump", **part} for kind, part in types.items()]
    return json.dumps({"configs": parts})


def raws_of(mesh: Mesh, *pods: Json) -> list[Raw]:
    one, two = mesh.clusters
    services = (service("istiod", "10.96.0.7"), service("shop", "10.96.0.8"))
    far = (service("gateway", "10.96.0.8", "198.18.2.1"),)
    return [Raw(cluster=one, pods=pods, services=services), Raw(cluster=two, pods=(), services=far)]


def parts(mesh: Mesh, text: str, *pods: Json) -> dict[Key, Content]:
    raws = raws_of(mesh, *pods)
    member = workload_pods(raws[0])[0]
    return parse_parts(text, member, directory_of(mesh.clusters[0], mesh, raws))


def record(found: dict[Key, Content], **samples: Sample) -> BaselineRecord:
    taken = datetime(2026, 11, 25, 10, 0, tzinfo=UTC)
    return BaselineRecord(mesh="multi-primary-multinet", taken=taken, parts=found, samples=samples)


KEY = Key(cluster="cluster1", workload="ns/shop", kind="endpoints", name=SHOP)
ALIKE = replace(KEY, workload="ns/client")
