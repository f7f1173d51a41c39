"""Journalled editor: every change that a fault makes is recorded before it is made."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from meshproof.clients.kubernetes.client import ApiError, Json, api_version, path_of
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
"""Gets a copy of the object; returns the new object, or changes the copy and returns None."""


class Prevented(MeshproofError):
    """Istio or Kubernetes rejects the fault, or repairs it at once; the text is the evidence."""


class JournalledEditor:
    """Edits a mesh for a fault. Everything needed to undo an edit is in the journal, nothing only in this object."""

    def __init__(self, mesh: Mesh, journal: Journal, fault: str, machine_control: MachineControl | None = None) -> None:
        self.mesh = mesh
        self.fault = fault
        self._journal = journal
        self._machine_control = machine_control
        self._uids: dict[str, str] = {}
        self._last: tuple[Cluster, str, str, str | None, Json] | None = None

    # -- clusters of the fault ------------------------------------------------------------------------------------

    @property
    def topology(self) -> Topology:
        return self.mesh.topology

    @property
    def near(self) -> Cluster:
        """The first primary: the fault affects its istiod."""
        return self.mesh.primaries[0]

    @property
    def far(self) -> Cluster:
        """The last cluster: a remote of `near`, or another primary."""
        return self.mesh.clusters[-1]

    @property
    def far_config(self) -> Cluster:
        """The cluster from which `far` gets its Istio configuration."""
        return self.mesh.control_plane_of(self.far)

    @property
    def last_change(self) -> tuple[Cluster, str, str, str | None, Json]:
        """The object of the last edit, and its content after it."""
        assert self._last is not None, "no object was edited"
        return self._last

    # -- changes --------------------------------------------------------------------------------------------------

    def edit(self, cluster: Cluster, kind: str, name: str, namespace: str | None, change: Change) -> Json:
        """Change an existing object; returns the original. Raises `Prevented` if admission rejects the change."""
        original = self._must_find(cluster, kind, name, namespace)
        self._record_original(cluster, original, kind)
        self._replace(cluster, kind, name, namespace, change)
        return original

    def remove(self, cluster: Cluster, kind: str, name: str, namespace: str | None) -> Json:
        """Delete an existing object; returns the original."""
        original = self._must_find(cluster, kind, name, namespace)
        self._record_original(cluster, original, kind)
        cluster.kube.delete(kind, name, namespace)
        return original

    def replace(self, cluster: Cluster, manifest: Json) -> Json:
        """Create an existing object anew, with fields that cannot be edited; returns the original."""
        meta = manifest["metadata"]
        original = self.remove(cluster, manifest["kind"], meta["name"], meta.get("namespace"))
        try:
            cluster.kube.create(manifest)
        except ApiError as problem:
            raise _prevented(problem) from None
        return original

    def add(self, cluster: Cluster, manifest: Json) -> None:
        """Create a new object. Raises `Prevented` if admission rejects it."""
        meta = manifest["metadata"]
        kind, name, namespace = manifest["kind"], meta["name"], meta.get("namespace")
        if cluster.kube.find(kind, name, namespace) is not None:
            raise Broken(f"{kind} {name} on {cluster}", "it exists already", "heal first: meshproof fault heal")
        self._record(cluster, {"do": "delete", "kind": kind, "name": name, "namespace": namespace})
        try:
            cluster.kube.create(manifest)
        except ApiError as problem:
            raise _prevented(problem) from None

    def delete_when_healed(self, cluster: Cluster, kind: str, name: str, namespace: str | None) -> None:
        """Have the undo delete an object that a controller creates because of the fault."""
        self._record(cluster, {"do": "delete", "kind": kind, "name": name, "namespace": namespace})

    def restart(self, clusters: Iterable[Cluster], scope: str) -> None:
        """Restart pods now, and again after everything else is undone: they read some settings only at startup."""
        wanted = list(clusters)
        for cluster in wanted:
            self._record(cluster, {"do": "restart", "scope": scope})
        together(lambda cluster: undo.apply_undo(self.mesh, cluster, {"do": "restart", "scope": scope}, None), wanted)

    def restart_when_healed(self, cluster: Cluster, scope: str) -> None:
        """Restart pods only after everything else is undone: after the fault they notice recovery slowly."""
        self._record(cluster, {"do": "restart", "scope": scope})

    def recreate_pods_when_healed(self, cluster: Cluster, namespace: str, deployment: str) -> None:
        """Recreate a Deployment's pods after everything else is undone, without Kubernetes' long back-off."""
        found = self._must_find(cluster, "Deployment", deployment, namespace)
        replicas = int(found["spec"].get("replicas", 1))
        self._record(cluster, {"do": "again", "namespace": namespace, "name": deployment, "replicas": replicas})

    def stop_istiod(self, cluster: Cluster) -> None:
        """Scale istiod to zero and wait until it is gone."""
        scale_istiod_down(cluster, lambda replicas: self._record(cluster, {"do": "scale", "replicas": dict(replicas)}))

    def block(self, client: Cluster, server: Cluster, *, ports: tuple[int, ...] = ()) -> None:
        """Drop traffic from one cluster to another: to these ports of its gateways, or all traffic to its pods."""
        machine_control = self._require_machine_control()
        self._record(server, {"do": "unblock"})
        machine_control.block(client.name, server.name, ports)

    def restart_api_server(self, cluster: Cluster) -> None:
        """Restart a cluster's API server to end every watch: watches outlive revoked rights. Needs no undo."""
        self._require_machine_control().restart_api_server(cluster.name)
        undo.await_api_server(cluster.kube)

    # -- internals -----------------------------------------------------------------------------------------------

    def _require_machine_control(self) -> MachineControl:
        if self._machine_control is None:
            raise Unavailable(
                f"fault {self.fault}", "it needs control of the machines, which only the lab has", "use --provider=lab"
            )
        return self._machine_control

    def _must_find(self, cluster: Cluster, kind: str, name: str, namespace: str | None) -> Json:
        found = cluster.kube.find(kind, name, namespace)
        if found is None:
            raise Broken(f"{kind} {name} on {cluster}", "it does not exist", "a fault needs a healthy mesh: install it")
        return {"apiVersion": api_version(kind), "kind": kind} | found

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
                if problem.status != 409 or attempt == 4:  # a concurrent write
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


def _prevented(problem: ApiError) -> MeshproofError:
    """A rejection by admission is a result; any other error is our own problem."""
    denied = "denied the request" in problem.reason or problem.status == 422
    return Prevented(f"the API server rejected it: {problem.reason}") if denied else problem
