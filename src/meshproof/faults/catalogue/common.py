"""What several faults share: claims that fall together, and small edits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import yaml

from meshproof import names
from meshproof.claims import Need
from meshproof.clients.kube import Json
from meshproof.install.manifests import MANAGED_BY

TRAFFIC_ACROSS: Final = ("TRAFFIC-01", "TRAFFIC-02", "TRAFFIC-03", "TRAFFIC-04", "TRAFFIC-05", "TRAFFIC-09")
"""Fall wherever requests cannot cross from one cluster to the other, or answers of one version are missing."""

IDENTITY_ACROSS: Final = ("TRAFFIC-06", "TRAFFIC-07", "TRUST-06")
"""Need a request to cross as their positive control."""

PATH_ACROSS: Final = ("GATEWAYS-08", "TRUST-05")

CANARY: Final = ("DISCOVERY-03", "DISCOVERY-08", "DISCOVERY-09")
"""Make something in one cluster and wait until the other sees it."""

ACROSS: Final = (*TRAFFIC_ACROSS, *IDENTITY_ACROSS, *PATH_ACROSS, *CANARY)

NEW_PODS: Final = (
    "CONTROL-02",
    "DISCOVERY-03",
    "DISCOVERY-08",
    "DISCOVERY-09",
    "TRAFFIC-03",
    "TRAFFIC-04",
    "TRAFFIC-05",
    "TRAFFIC-06",
    "TRAFFIC-07",
    "TRAFFIC-09",
    "TRUST-06",
)
"""Start injected pods of their own."""

REMOTE_ON_OTHER_NETWORK: Final = Need(
    name="a remote on another network",
    applies=lambda t: any(t.crosses_network(t.control_plane_of(remote), remote) for remote in t.remotes),
    otherwise="no remote is on another network than its primary",
)
SHARED_NETWORK_ONLY: Final = Need(
    name="one network",
    applies=lambda t: len(t.networks) == 1,
    otherwise="pods of different networks do not reach each other anyway",
)


def meta(name: str, namespace: str) -> Json:
    return {"name": name, "namespace": namespace, "labels": dict(MANAGED_BY)}


def networking(kind: str, name: str, spec: Json, namespace: str = names.APP_NAMESPACE) -> Json:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": kind,
        "metadata": meta(name, namespace),
        "spec": spec,
    }


def security(kind: str, name: str, spec: Json, namespace: str = names.APP_NAMESPACE) -> Json:
    return {"apiVersion": "security.istio.io/v1", "kind": kind, "metadata": meta(name, namespace), "spec": spec}


APP_FQDN: Final = f"{names.APP_SERVICE}.{names.APP_NAMESPACE}.svc.cluster.local"

MESH_CONFIG: Final = "istio"
"""ConfigMap with the mesh's configuration, key `mesh`; istiod follows it."""


def with_mesh_config(changes: Mapping[str, Any]) -> Any:
    """A change of the ConfigMap that sets these top-level fields."""

    def change(config: Json) -> None:
        mesh = yaml.safe_load(config["data"]["mesh"]) or {}
        config["data"]["mesh"] = yaml.safe_dump({**mesh, **changes})

    return change


def without_label(key: str) -> Any:
    def change(thing: Json) -> None:
        (thing["metadata"].get("labels") or {}).pop(key, None)

    return change


def with_label(key: str, value: str) -> Any:
    def change(thing: Json) -> None:
        thing["metadata"].setdefault("labels", {})[key] = value

    return change


def remote_secret(cluster: object) -> str:
    return f"istio-remote-secret-{cluster}"
