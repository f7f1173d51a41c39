"""The settings that an istiod reads from its ConfigMap, as far as a snapshot needs them."""

from __future__ import annotations

from dataclasses import dataclass

import yaml

from meshproof.clients.kubernetes.client import Kube
from meshproof.core import names
from meshproof.mesh.network_gateways import MESH_NETWORKS, DeclaredGateway, declared_gateways


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshSettings:
    """`declared` are the gateways of `meshNetworks`; `root_namespace` is where policies for all namespaces are."""

    declared: tuple[DeclaredGateway, ...] = ()
    root_namespace: str = names.SYSTEM_NAMESPACE


def mesh_settings(kube: Kube, revision: str) -> MeshSettings:
    """Those of the istiod of a revision; the defaults without its ConfigMap."""
    found = kube.find("ConfigMap", names.of_revision(names.MESH_CONFIG, revision), names.SYSTEM_NAMESPACE) or {}
    data = found.get("data") or {}
    return MeshSettings(
        declared=declared_gateways(data.get(MESH_NETWORKS, "")),
        root_namespace=_root_namespace(data.get(MESH, "")),
    )


MESH = "mesh"
"""Key of the ConfigMap."""


def _root_namespace(text: str) -> str:
    try:
        parsed = yaml.safe_load(text) or {}
    except yaml.YAMLError:
        parsed = {}
    found = parsed.get("rootNamespace") if isinstance(parsed, dict) else None
    return str(found or names.SYSTEM_NAMESPACE)
