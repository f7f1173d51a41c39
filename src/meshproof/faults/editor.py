"""Where a fault happens: every change to the mesh goes through here, and is on record before it is made."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from meshproof.clients.kubernetes.client import ApiError, Json, path_of
from meshproof.core.concurrency import together
from meshproof.core.errors import Broken, MeshproofError, Unavailable
from meshproof.core.model import Topology
from meshproof.faults import undo
from meshproof.faults.istiod_replicas import scale_istiod_down
from meshproof.faults.journal import Journal
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.machine_control import MachineControl
from meshproof.mesh.objects import cluster_uid

Change = Callable[[Json], "Json | None"]
"""Gets a copy of the object, and returns what it should be (or changes the copy and returns None)."""


class Prevented(MeshproofError):
    """Istio or Kubernetes does not let the fault happen, or puts it right; the text is the evidence."""


class JournalledEditor:
    """A healthy mesh that is about to be broken. Handles for faults; keeps nothing that the journal does not have."""

    def __init__(self, mesh: Mesh, journal: Journal, fault: str, links: MachineControl | None = None) -> None:
        self.mesh = mesh
        self.fault = fault
        self._journal = journal
        self._links = links
        self._uids: dict[str, str] = {}
        self._last: tuple[Cluster, str, str, str | None, Json] | None = None

    # -- who is broken --------------------------------------------------------------------------------------------

    @property
    def topology(self) -> Topology:
        return self.mesh.topology

    @property
    def near(self) -> Cluster:
        """The first primary: its istiod is the one that is misled."""
        return self.mesh.primaries[0]

    @property
    def far(self) -> Cluster:
        """The last cluster: a remote of `near`, or another primary."""
        return self.mesh.clusters[-1]

    @property
    def far_config(self) -> Cluster:
        """Where configuration for `far` is read."""
        return self.mesh.control_plane_of(self.far)

    @property
    def last_change(self) -> tuple[Cluster, str, str, str | None, Json]:
        """Where the last edit was, and what it made of the object."""
        assert self._last is not None, "no object was edited"
        return self._last

    # -- changes --------------------------------------------------------------------------------------------------

    def edit(self, cluster: Cluster, kind: str, name: str, namespace: str | None, change: Change) -> Json:
        """Change an object that must be there; returns it as it was. Raises `Prevented` if admission refuses it."""
        original = self._must_find(cluster, kind, name, namespace)
        self._record_original(cluster, original, kind)
        self._replace(cluster, kind, name, namespace, change)
        return original

    def remove(self, cluster: Cluster, kind: str, name: str, namespace: str | None) -> Json:
        """Delete an object that must be there; returns it as it was."""
        original = self._must_find(cluster, kind, name, namespace)
        self._record_original(cluster, original, kind)
        cluster.kube.delete(kind, name, namespace)
        return original

    def add(self, cluster: Cluster, manifest: Json) -> None:
        """Create an object that must not be there. Raises `Prevented` if admission refuses it."""
        meta = manifest["metadata"]
        kind, name, namespace = manifest["kind"], meta["name"], meta.get("namespace")
        if cluster.kube.find(kind, name, namespace) is not None:
            raise Broken(f"{kind} {name} on {cluster}", "is there already", "heal first: meshproof fault heal")
        self._record(cluster, {"do": "delete", "kind": kind, "name": name, "namespace": namespace})
        try:
            cluster.kube.create(manifest)
        except ApiError as problem:
            raise _prevented(problem) from None

    def forget_added(self, cluster: Cluster, kind: str, name: str, namespace: str | None) -> None:
        """Have an object deleted at healing that the fault made somebody else create."""
        self._record(cluster, {"do": "delete", "kind": kind, "name": name, "namespace": namespace})

    def restart(self, clusters: Iterable[Cluster], scope: str) -> None:
        """Renew pods now, and again after all else is healed: they keep what they read at their start."""
        wanted = list(clusters)
        for cluster in wanted:
            self._record(cluster, {"do": "restart", "scope": scope})
        together(lambda cluster: undo.apply_undo(self.mesh, cluster, {"do": "restart", "scope": scope}, None), wanted)

    def restart_when_healed(self, cluster: Cluster, scope: str) -> None:
        """Renew pods after all else is healed only: the fault leaves them slow to notice that all is healthy."""
        self._record(cluster, {"do": "restart", "scope": scope})

    def start_again_when_healed(self, cluster: Cluster, namespace: str, deployment: str) -> None:
        """Have a Deployment's pods made anew after all else is healed: Kubernetes has been refused them for long."""
        found = self._must_find(cluster, "Deployment", deployment, namespace)
        replicas = int(found["spec"].get("replicas", 1))
        self._record(cluster, {"do": "again", "namespace": namespace, "name": deployment, "replicas": replicas})

    def stop_istiod(self, cluster: Cluster) -> None:
        """Scale istiod to zero and wait until it is gone."""
        scale_istiod_down(cluster, lambda replicas: self._record(cluster, {"do": "scale", "replicas": dict(replicas)}))

    def block(self, client: Cluster, server: Cluster, *, ports: tuple[int, ...] = ()) -> None:
        """Drop what goes from one cluster to another: those ports of its gateways, or all that goes to its pods."""
        links = self._require_links()
        self._record(server, {"do": "unblock"})
        links.block(client.name, server.name, ports)

    def restart_api_server(self, cluster: Cluster) -> None:
        """Cut every watch on a cluster: they outlive the rights that they began with. Needs no undo."""
        self._require_links().restart_api_server(cluster.name)
        undo.await_api_server(cluster.kube)

    # -- underneath -----------------------------------------------------------------------------------------------

    def _require_links(self) -> MachineControl:
        if self._links is None:
            raise Unavailable(f"fault {self.fault}", "only the lab can do this to its machines", "use --provider=lab")
        return self._links

    def _must_find(self, cluster: Cluster, kind: str, name: str, namespace: str | None) -> Json:
        found = cluster.kube.find(kind, name, namespace)
        if found is None:
            raise Broken(f"{kind} {name} on {cluster}", "is not there", "a fault needs a healthy mesh: install it")
        return {"apiVersion": _version(kind), "kind": kind} | found

    def _replace(self, cluster: Cluster, kind: str, name: str, namespace: str | None, change: Change) -> None:
        for attempt in range(5):
            current = self._must_find(cluster, kind, name, namespace)
            wanted = copy.deepcopy(current)
            wanted = change(wanted) or wanted
            wanted["metadata"]["resourceVersion"] = current["metadata"].get("resourceVersion")
            wanted.pop("status", None)
            try:
                cluster.kube.request("PUT", path_of(kind, namespace, name), body=wanted)
                self._last = (cluster, kind, name, namespace, wanted)
                return
            except ApiError as problem:
                if problem.status != 409 or attempt == 4:  # somebody else wrote meanwhile
                    raise _prevented(problem) from None

    def _record_original(self, cluster: Cluster, original: Json, kind: str) -> None:
        meta = original["metadata"]
        if kind != "Secret":
            self._record(cluster, {"do": "put", "original": undo.bare(original)})
            return
        kept_as = f"meshproof-kept-{uuid.uuid4().hex[:8]}"
        undo.keep_secret(cluster.kube, original, kept_as)
        row = {"do": "unkeep", "name": meta["name"], "namespace": meta["namespace"], "kept_as": kept_as}
        self._record(cluster, row)

    def _record(self, cluster: Cluster, row: dict[str, Any]) -> None:
        uid = self._uids.setdefault(cluster.name, cluster_uid(cluster.kube))
        self._journal.record(fault=self.fault, cluster=cluster.name, cluster_uid=uid, undo=row)


def _version(kind: str) -> str:
    prefix = path_of(kind).rsplit("/", 1)[0]
    return prefix.removeprefix("/apis/").removeprefix("/api/")


def _prevented(problem: ApiError) -> MeshproofError:
    """Admission's refusal is an outcome; anything else is our trouble."""
    denied = "denied the request" in problem.reason or problem.status == 422
    return Prevented(f"the API server refuses it: {problem.reason}") if denied else problem
