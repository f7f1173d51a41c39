"""The mesh configuration that an istiod reads: ConfigMap `istio`, or `istio-<revision>`."""

from __future__ import annotations

import yaml

from meshproof.clients.kubernetes.client import FORBIDDEN, ApiError, Json
from meshproof.core import names
from meshproof.mesh.handles import Cluster


def mesh_config(primary: Cluster) -> Json:
    """The parsed configuration; empty where there is none, it may not be read, or it cannot be parsed."""
    name = names.of_revision(names.MESH_CONFIG, primary.spec.revision)
    try:
        found = primary.kube.find("ConfigMap", name, names.SYSTEM_NAMESPACE)
    except ApiError as problem:
        if problem.status == FORBIDDEN:
            return {}
        raise
    try:
        parsed = yaml.safe_load(((found or {}).get("data") or {}).get("mesh") or "")
    except yaml.YAMLError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
