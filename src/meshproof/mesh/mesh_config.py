"""What an istiod reads from its ConfigMap `istio`, or `istio-<revision>`: the mesh configuration and mesh networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from meshproof.clients.kubernetes.client import FORBIDDEN, ApiError, Json
from meshproof.core import names
from meshproof.mesh.handles import Cluster
from meshproof.mesh.network_gateways import MESH_NETWORKS, DeclaredGateway, declared_gateways


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshSettings:
    """`declared` are the gateways of `meshNetworks`; `root_namespace` is where policies for all namespaces are."""

    declared: tuple[DeclaredGateway, ...] = ()
    root_namespace: str = names.SYSTEM_NAMESPACE


def settings_for_snapshot(primary: Cluster) -> MeshSettings:
    """The settings that a snapshot needs; the defaults where the ConfigMap does not exist or may not be read."""
    data = _data(primary)
    return MeshSettings(
        declared=declared_gateways(data.get(MESH_NETWORKS, "")), root_namespace=root_namespace(_parsed(data))
    )


def mesh_config(primary: Cluster) -> Json:
    """The parsed configuration; empty where there is none, it may not be read, or it cannot be parsed."""
    return _parsed(_data(primary))


def root_namespace(config: Json) -> str:
    """Where policies for all namespaces are, by the mesh configuration."""
    return str(config.get("rootNamespace") or names.SYSTEM_NAMESPACE)


def _data(primary: Cluster) -> Mapping[str, str]:
    name = names.of_revision(names.MESH_CONFIG, primary.spec.revision)
    try:
        found = primary.kube.find("ConfigMap", name, names.SYSTEM_NAMESPACE)
    except ApiError as problem:
        if problem.status == FORBIDDEN:
            return {}
        raise
    return (found or {}).get("data") or {}


def _parsed(data: Mapping[str, str]) -> Json:
    try:
        parsed = yaml.safe_load(data.get("mesh") or "")
    except yaml.YAMLError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
