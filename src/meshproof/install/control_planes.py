"""Without a running istiod no probe gets a sidecar: said at once, and not after every wait for one."""

from __future__ import annotations

from functools import partial
from typing import Final

from meshproof.clients.kubernetes.manifests import INJECTED_NAMESPACES
from meshproof.core import names
from meshproof.core.waiting import NotYet, eventually
from meshproof.mesh.handles import Cluster, Mesh

RESTART_S: Final = 10.0
"""For an istiod that is just being replaced."""


def istiods_must_run(mesh: Mesh) -> None:
    """Check the istiods that would inject probes which are not there yet. Raises `NotReady` if one has no replica."""
    needing = [cluster for cluster in mesh.clusters if _lacks_probes(cluster)]
    for primary in dict.fromkeys(mesh.control_plane_of(cluster) for cluster in needing):
        name = names.of_revision(names.ISTIOD, primary.spec.revision)
        context = f"kubectl --context={primary.access.context} -n {names.SYSTEM_NAMESPACE}"
        eventually(
            partial(_must_run, primary, name),
            what=f"istiod of {primary}",
            timeout_s=RESTART_S,
            repair=f"{context} describe deployment {name}; claims can be asked when it runs, since it injects probes",
        )


def _lacks_probes(cluster: Cluster) -> bool:
    return any(cluster.kube.find("Namespace", name) is None for name in INJECTED_NAMESPACES)


def _must_run(primary: Cluster, name: str) -> None:
    """One that is not there by this name is somewhere else: claims judge that."""
    found = primary.kube.find("Deployment", name, names.SYSTEM_NAMESPACE)
    if found is None:
        return
    wanted = (found.get("spec") or {}).get("replicas", 1)
    if not (found.get("status") or {}).get("readyReplicas"):
        raise NotYet(f"0 of {wanted} replicas ready" if wanted else "it is scaled to 0 replicas")
