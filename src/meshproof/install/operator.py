"""The IstioOperator of each cluster, derived from the topology."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meshproof.clients.kubernetes.client import Json
from meshproof.core.model import ClusterSpec, Role, Topology
from meshproof.core.names import DEFAULT_REVISION, SYSTEM_NAMESPACE
from meshproof.mesh.access import Toolbox

OPERATOR = "meshproof"
"""Name of the IstioOperator; istioctl writes it into the label `install.operator.istio.io/owning-resource`."""


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> Json:
    """`base` overlaid with `over`: mappings are merged by key, everything else is replaced. Changes neither."""
    result: Json = dict(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return result


def injection_path(cluster: ClusterSpec) -> str:
    """The injection path of a remote's webhook; cluster and network end up in the pods' environment."""
    return f"/inject/cluster/{cluster.name}/net/{cluster.network}"


def istio_operator(
    topology: Topology, cluster: ClusterSpec, toolbox: Toolbox, *, remote_pilot_address: str | None = None
) -> Json:
    """The IstioOperator that makes `cluster` a primary or a remote; gateways are not part of it.

    `remote_pilot_address` is the external address of the primary's east-west gateway, for a remote only.
    """
    spec = merged(_common(topology, cluster, toolbox), _ROLES[cluster.role](topology, cluster, remote_pilot_address))
    return {
        "apiVersion": "install.istio.io/v1alpha1",
        "kind": "IstioOperator",
        "metadata": {"name": OPERATOR, "namespace": SYSTEM_NAMESPACE},
        "spec": merged(spec, toolbox.istio_values),
    }


def _common(topology: Topology, cluster: ClusterSpec, toolbox: Toolbox) -> Json:
    revision = {} if cluster.revision == DEFAULT_REVISION else {"revision": cluster.revision}
    return revision | {
        "hub": toolbox.hub,
        "tag": toolbox.tag,
        "meshConfig": {"trustDomain": topology.trust_domain},
        "values": {
            "global": {
                "imagePullPolicy": "IfNotPresent",
                "meshID": topology.mesh_id,
                "multiCluster": {"clusterName": cluster.name},
                "network": cluster.network,
                # Small, since the mesh is for tests only, and without limits, so that start-up is not throttled.
                "proxy": {
                    "resources": {"requests": {"cpu": "10m", "memory": "40Mi"}, "limits": None},
                    # The chart probes every 15 s, and a kubelet that has just started delays the first probe by a
                    # random part of that (pkg/kubelet/prober/worker.go). The threshold keeps it at one minute.
                    "readinessPeriodSeconds": 2,
                    "readinessFailureThreshold": 30,
                },
            },
        },
    }


def _primary(topology: Topology, cluster: ClusterSpec, _: str | None) -> Json:
    return {
        "profile": "minimal",
        "components": {
            "pilot": {
                "k8s": {
                    # The chart's probe waits 1 s and runs every 3 s, and the install waits for it.
                    "readinessProbe": {
                        "httpGet": {"path": "/ready", "port": 8080},
                        "initialDelaySeconds": 0,
                        "periodSeconds": 1,
                        "timeoutSeconds": 5,
                        "failureThreshold": 3,
                    }
                }
            }
        },
        "values": {
            "pilot": {
                "autoscaleEnabled": False,
                "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
            },
            "global": {"externalIstiod": topology.exposes_istiod(cluster)},
        },
    }


def _remote(_: Topology, cluster: ClusterSpec, address: str | None) -> Json:
    if not address:
        raise ValueError(f"{cluster.name} is a remote: the address of its primary's east-west gateway is required")
    return {
        "profile": "remote",
        "values": {
            "istiodRemote": {"injectionPath": injection_path(cluster)},
            "global": {"remotePilotAddress": address},
        },
    }


_ROLES = {Role.PRIMARY: _primary, Role.REMOTE: _remote}
