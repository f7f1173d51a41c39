"""Which replica of istiod leads; one that dies without releasing its lease is not replaced for half a minute."""

from __future__ import annotations

import json
from typing import Final

from meshproof.clients.kubernetes.client import Kube
from meshproof.core import names
from meshproof.mesh.handles import Cluster, Mesh

LEADER: Final = "istio-namespace-controller-election"
"""ConfigMap that names the istiod which writes root certificates into a cluster's namespaces."""


def leader_of(kube: Kube) -> str:
    """The name of the pod that leads for a cluster; empty if none does."""
    found = kube.find("ConfigMap", LEADER, names.SYSTEM_NAMESPACE) or {"metadata": {}}
    record = (found["metadata"].get("annotations") or {}).get("control-plane.alpha.kubernetes.io/leader", "{}")
    return str(json.loads(record).get("holderIdentity", ""))


def leading(mesh: Mesh, primary: Cluster) -> set[str]:
    """The pods of a primary's istiod that lead for it or for one of its remotes. istiod 1.31 releases its own
    cluster's lease when it is stopped, and keeps a remote's."""
    return {leader_of(cluster.kube) for cluster in mesh.controlled_by(primary)}
