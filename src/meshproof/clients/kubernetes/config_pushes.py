"""Determines which API requests make istiod push configuration to proxies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from meshproof.core import names

WRITES: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
CONFIG_GROUPS: Final = ("istio.io", "gateway.networking.k8s.io")
WATCHED: Final = frozenset(
    {
        ("", "endpoints"),
        ("", "namespaces"),
        ("", "nodes"),
        ("", "pods"),
        ("", "secrets"),
        ("", "services"),
        ("apps", "daemonsets"),
        ("apps", "deployments"),
        ("apps", "replicasets"),
        ("apps", "statefulsets"),
        ("batch", "jobs"),
        ("discovery.k8s.io", "endpointslices"),
    }
)
"""Group and plural of other resources that cause pushes, and of those that create pods. Secrets are remote clusters
and gateway certificates (pilot/pkg/serviceregistry/kube, pkg/kube/multicluster, pilot/pkg/credentials)."""


def makes_istiod_push(method: str, path: str, query: Mapping[str, str]) -> bool:
    """Whether a request changes what istiod sends to proxies; a dry run changes nothing."""
    if method not in WRITES or "dryRun" in query:
        return False
    group, namespace, plural = _resource(path)
    if any(group == known or group.endswith(f".{known}") for known in CONFIG_GROUPS):
        return True
    mesh_config = plural == "configmaps" and namespace == names.SYSTEM_NAMESPACE
    return mesh_config or (group, plural) in WATCHED


def _resource(path: str) -> tuple[str, str, str]:
    """Group, namespace and plural of `/api/v1/…` or `/apis/GROUP/VERSION/…`; a namespace itself is in none."""
    root, *parts = path.strip("/").split("/")
    group, parts = ("", parts[1:]) if root == "api" else (parts[0], parts[2:]) if root == "apis" else (root, [])
    if len(parts) > 2 and parts[0] == "namespaces":
        return group, parts[1], parts[2]
    return group, "", parts[0] if parts else ""
