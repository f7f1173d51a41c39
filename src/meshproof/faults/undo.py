"""Undo of faults: restores the recorded originals exactly, then restarts what keeps old state.

An undo is plain data in the journal. Its `do` is one of:

    put       create the object `original`, or replace the current one by it
    unkeep    the same for a Secret; the original is kept in the cluster itself, in Secret `kept_as`
    delete    delete an object that did not exist before; of a Namespace it waits for the end
    scale     scale the istiod Deployments back to `replicas`
    restart   restart the pods of `scope`: `istiod`, `workloads`, `east-west`
    again     scale Deployment `namespace`/`name` to zero and back to `replicas`: Kubernetes then creates its pods at
              once instead of after its back-off
    ready     change nothing, since Kubernetes replaces killed pods; wait until Deployment `namespace`/`name` is ready
    reissue   put a new token for cluster `of` into this cluster's remote secret

The following need control of the machines (the lab), and no API server to begin with:

    unblock   open the links between clusters
    start     start the cluster's API server
    thaw      continue the cluster's stopped processes
    revive    start the cluster's machine
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Mapping
from typing import Any, Final

from meshproof.clients.kubernetes.client import ApiError, Json, Kube, path_of
from meshproof.clients.kubernetes.rollout import pods_of, pods_ready
from meshproof.controlplane.leader_election import leading
from meshproof.core import names
from meshproof.core.errors import Broken, Unavailable
from meshproof.core.model import ClusterName, ClusterSpec, GatewayRef
from meshproof.core.names import MANAGED_BY, ROOT_MAP
from meshproof.core.waiting import NotYet, eventually
from meshproof.faults.istiod_replicas import ISTIOD_GRACE_S, start_istiod
from meshproof.install.removal import remove_these_namespaces
from meshproof.install.steps import Build
from meshproof.mesh.ca_files import SELF_SIGNED, ca_of
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.machine_control import MachineControl
from meshproof.mesh.snapshot import ROOT_KEY

ISTIOD: Final = "istiod"
WORKLOADS: Final = "workloads"
EAST_WEST: Final = "east-west"
KEPT: Final = "original"
READY_S: Final = 120.0

_SERVER_OWNED: Final = ("resourceVersion", "uid", "creationTimestamp", "generation", "managedFields", "selfLink")

MACHINES: Final = ("unblock", "start", "thaw", "revive")
FIRST: Final = ("put", "unkeep", "delete", "scale", "unblock")
"""Undos that precede all restarts."""
API_SERVER_S: Final = 60.0
ROOT_S: Final = 60.0


def bare(thing: Json) -> Json:
    """An object without server-managed fields, ready to be written back."""
    meta = {key: value for key, value in thing["metadata"].items() if key not in _SERVER_OWNED}
    return {key: value for key, value in thing.items() if key != "status"} | {"metadata": meta}


def put(kube: Kube, thing: Json) -> None:
    """Create the object, or replace an existing one."""
    meta = thing["metadata"]
    kind, name, namespace = thing["kind"], meta["name"], meta.get("namespace")
    clean = bare(thing)
    for attempt in range(5):
        current = kube.find(kind, name, namespace)
        try:
            if current is not None and current.get("type") != clean.get("type") and kind == "Secret":
                kube.delete(kind, name, namespace)  # the type of a Secret cannot be changed
                current = None
            if current is None:
                kube.create(clean)
            else:
                clean["metadata"]["resourceVersion"] = current["metadata"].get("resourceVersion")
                kube.request("PUT", path_of(kind, namespace, name), body=clean)
            return
        except ApiError as problem:
            if problem.status != 409 or attempt == 4:  # a concurrent write
                raise


def keep_secret(kube: Kube, original: Json, name: str) -> None:
    """Keep a copy in the same namespace, so that no key or token is written to the runner's disk."""
    whole = base64.b64encode(json.dumps(original).encode()).decode()
    meta = {"name": name, "namespace": original["metadata"]["namespace"], "labels": dict(MANAGED_BY)}
    put(kube, {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "Opaque", "data": {KEPT: whole}})


def apply_undo(mesh: Mesh, cluster: Cluster, undo: Mapping[str, Any], machine_control: MachineControl | None) -> None:
    """Apply one undo; safe to repeat. Raises the cluster's error, or `Unavailable` if it needs another provider."""
    kube = cluster.kube
    match undo["do"]:
        case "put":
            put(kube, undo["original"])
        case "unkeep":
            _unkeep(kube, undo)
        case "delete" if undo["kind"] == "Namespace":
            remove_these_namespaces(kube, [undo["name"]], aborted=threading.Event())
        case "delete":
            kube.delete(undo["kind"], undo["name"], undo.get("namespace"))
        case "scale":
            replicas = {str(name): int(count) for name, count in undo["replicas"].items()}
            start_istiod(kube, replicas, lambda: leading(mesh, cluster))
        case "restart":
            if undo["scope"] == WORKLOADS:
                await_current_root(mesh.control_plane_of(cluster), cluster)
            restart_scope(cluster, undo["scope"])
        case "again":
            _start_again(kube, undo["namespace"], undo["name"], undo["replicas"])
        case "ready":
            await_deployment(kube, undo["namespace"], undo["name"])
        case "reissue":
            reissue(mesh, mesh.cluster(undo["of"]), cluster)
        case machine if machine in MACHINES:
            apply_machine_undo(cluster.name, kube, undo, machine_control)
        case other:
            raise Broken(
                "fault journal", f"it has the unknown undo {other!r}", "heal with the meshproof version that wrote it"
            )


def apply_machine_undo(
    name: ClusterName, kube: Kube, undo: Mapping[str, Any], machine_control: MachineControl | None
) -> None:
    """Apply one undo of the machines; returns when the API server responds again."""
    if machine_control is None:
        raise Unavailable("undo of a machine fault", "only the lab can apply it", "heal with --provider=lab")
    match undo["do"]:
        case "unblock":
            machine_control.unblock()
            return
        case "start":
            machine_control.start_api_server(name)
        case "thaw":
            machine_control.thaw(name)
        case "revive":
            machine_control.revive(name)
    await_api_server(kube)


def await_api_server(kube: Kube) -> None:
    eventually(kube.must_answer, what=f"API server of {kube.name}", timeout_s=API_SERVER_S, poll_s=0.2)


def await_deployment(kube: Kube, namespace: str, name: str) -> None:
    """Wait until a Deployment has all its replicas ready, and no terminating pods."""
    pods_ready(kube, [(namespace, name)], what=f"{namespace}/{name} on {kube.name}", timeout_s=READY_S)


def _start_again(kube: Kube, namespace: str, name: str, replicas: int) -> None:
    for count in (0, replicas):
        kube.merge_patch("Deployment", name, {"spec": {"replicas": count}}, namespace, sub="scale")


def reissue(mesh: Mesh, of: Cluster, reader: Cluster) -> None:
    """Create a new token with which `reader` reads `of`, and put it into the remote secret."""
    build = Build(mesh)
    build.make_credentials(of)
    build.apply_remote_secret(of, reader)


def _unkeep(kube: Kube, undo: Mapping[str, Any]) -> None:
    kept = kube.find("Secret", undo["kept_as"], undo["namespace"])
    if kept is None:
        if kube.find("Secret", undo["name"], undo["namespace"]) is not None:
            return  # already restored by a heal that was interrupted afterwards
        what = f"Secret {undo['namespace']}/{undo['kept_as']} on {kube.name}"
        raise Broken(what, "the copy of the original Secret is missing", "install the mesh again")
    put(kube, json.loads(base64.b64decode(kept["data"][KEPT])))
    kube.delete("Secret", undo["kept_as"], undo["namespace"])


# -- restarting -------------------------------------------------------------------------------------------------------


def await_current_root(primary: Cluster, cluster: Cluster) -> None:
    """Wait until the current root certificate of `primary` has reached all namespaces with proxies of a cluster.

    A pod that starts earlier mounts the old one, and the kubelet refreshes mounted ConfigMaps only once a minute.
    """

    def check() -> None:
        root = _root_of(primary.kube)
        there = [name for name in cluster.spec.proxy_namespaces if cluster.kube.find("Namespace", name)]
        old = [name for name in there if root not in _published_root(cluster.kube, name)]
        if old:
            raise NotYet(f"old root certificate in {ROOT_MAP} of {', '.join(old)}")

    eventually(check, what=f"root certificate of {primary}'s istiod on {cluster}", timeout_s=ROOT_S, poll_s=0.2)


def _root_of(kube: Kube) -> str:
    """The root certificates (PEM text) of the CA of a cluster's istiod: plugged in, else self-signed, else external,
    of which istiod publishes the root."""
    ca, withheld = ca_of(kube)
    if ca is None:
        published = _published_root(kube, names.SYSTEM_NAMESPACE).strip()
        if withheld or not published:
            raise NotYet(withheld or f"neither Secret {names.CACERTS} nor {SELF_SIGNED} exists, nor {ROOT_MAP}")
        return published
    return ca.files[ca.names.root].decode().strip()


def _published_root(kube: Kube, namespace: str) -> str:
    found = kube.find("ConfigMap", ROOT_MAP, namespace) or {}
    return str((found.get("data") or {}).get(ROOT_KEY, ""))


def restart_scope(cluster: Cluster, scope: str) -> None:
    """Delete the pods of istiod, all others with a proxy, or those of the east-west gateway; wait for new ones.

    Pods get no grace period, except istiod: a killed istiod keeps its leases for half a minute, and until then new
    namespaces get no root certificate in any cluster.
    """
    grace_s = ISTIOD_GRACE_S if scope == ISTIOD else 0
    kube = cluster.kube
    chosen = [deployment for deployment in _deployments(cluster) if _is_in(scope, deployment, cluster.spec)]
    old: set[str] = set()
    for deployment in chosen:
        for pod in pods_of(kube, deployment):
            old.add(pod["metadata"]["uid"])
            kube.delete("Pod", pod["metadata"]["name"], pod["metadata"]["namespace"], grace_s=grace_s)

    these = [(each["metadata"]["namespace"], each["metadata"]["name"]) for each in chosen]
    pods_ready(kube, these, what=f"restart of {scope} on {cluster}", timeout_s=READY_S, old=old)


def _deployments(cluster: Cluster) -> list[Json]:
    return [found for name in cluster.spec.proxy_namespaces for found in cluster.kube.list("Deployment", name)]


def _is_in(scope: str, deployment: Json, spec: ClusterSpec) -> bool:
    if scope == EAST_WEST:
        meta = deployment["metadata"]
        return GatewayRef(meta["namespace"], meta["name"]) == spec.east_west
    is_istiod = (deployment["metadata"].get("labels") or {}).get("app") == "istiod"
    return is_istiod == (scope == ISTIOD)
