"""Attaching to an existing mesh: nothing is installed, repaired or removed, except our own probe namespaces."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Final

from meshproof.clients.kubernetes.client import Json, Kube
from meshproof.clients.kubernetes.manifests import INJECTED_NAMESPACES, namespaces
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.errors import BadInput, NotReady
from meshproof.core.progress import Narrator
from meshproof.core.waiting import NotYet
from meshproof.install.injection import (
    InjectorState,
    Refused,
    RemoteEvidence,
    injector_state,
    wait_for_injection,
)
from meshproof.install.lifecycle import Installed
from meshproof.install.marker import marked_topology
from meshproof.install.mesh_rules import pods_must_be_admitted
from meshproof.install.own_namespaces import MADE_FOR_A_RUN, PROBE_NAMESPACES
from meshproof.install.removal import remove_these_namespaces
from meshproof.install.steps import OBJECTS_S, Build
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.probes.admission import DryRun
from meshproof.workloads.namespaces import MeshWideSettings, bring


def recognise(mesh: Mesh) -> None:
    """Check that there is a mesh, and that it is the expected one. Raises `BadInput` if not."""
    for cluster in mesh.clusters:
        if cluster.kube.find("Namespace", names.SYSTEM_NAMESPACE) is None:
            raise BadInput(
                f"--mesh=existing: {cluster}",
                f"it has no namespace {names.SYSTEM_NAMESPACE}, so there is no mesh to verify",
                "name the clusters that have one; on the lab omit --mesh to have one installed",
            )
    marked = marked_topology(cluster.kube for cluster in mesh.clusters)
    if marked is not None and marked not in (mesh.topology.name, str(mesh.topology.source)):
        raise BadInput(f"--topology={mesh.topology.name}", f"the running mesh is {marked}", f"use --topology={marked}")


NEEDED_IN: Final = {
    names.APP_NAMESPACE: ("Service", names.APP_SERVICE),
    names.CLIENT_NAMESPACE: ("Deployment", names.CLIENT_POD),
    names.OUTSIDE_NAMESPACE: ("Deployment", names.CLIENT_POD),
}
"""The object that identifies a probe namespace."""


def refuse_foreign_namespaces(mesh: Mesh) -> None:
    """Raise `BadInput` if somebody else's namespace has the name of a probe namespace; it is not changed."""
    for cluster in mesh.clusters:
        for namespace, (kind, name) in NEEDED_IN.items():
            if _is_for_us_to_make(cluster.kube.find("Namespace", namespace)):
                continue
            if cluster.kube.find(kind, name, namespace) is None:
                raise BadInput(
                    f"namespace {namespace} on {cluster}",
                    f"it exists without the {kind} {name} that probes need, so meshproof does not use it",
                    f"rename it, or create the {kind} in it; docs/attach.md lists what probes need",
                )


def attach_to_mesh(mesh: Mesh) -> Installed:
    """Facts about a mesh that we did not install. Needs the probe namespaces (`add_probes`)."""
    begin = time.monotonic()
    return Installed(
        remotes=tuple(together(_evidence, mesh.remotes)),
        steps_s={},
        elapsed_s=time.monotonic() - begin,
    )


def _evidence(cluster: Cluster) -> RemoteEvidence:
    """The current state of injection. The state before the remote secret is unknown."""
    state = _injection_now(cluster.kube)
    return RemoteEvidence(cluster=cluster.name, secret_was_there=True, before=state, after=state)


def _injection_now(kube: Kube) -> InjectorState:
    try:
        return injector_state(kube)
    except Refused as problem:
        return InjectorState(ca_bundles=(), pod=DryRun.REFUSED, words=problem.reason)
    except NotReady as problem:
        return InjectorState(ca_bundles=(), pod=DryRun.BARE, words=problem.reason)
    except NotYet as problem:
        return InjectorState(ca_bundles=(), pod=DryRun.REFUSED, words=str(problem))


# -- our own probes ------------------------------------------------------------------------------------------------


def add_probes(mesh: Mesh, narrator: Narrator, *, lasting: bool = False) -> dict[Cluster, tuple[str, ...]]:
    """Create the namespaces with the demonstration service and the clients where they are missing; returns the created
    ones.

    They have what the mesh's settings call for. Raises `BadInput` if a rule of the cluster refuses their pods. Those
    that a killed run has left are completed, and count as created. On failure the created ones are removed. `lasting`
    ones are left alone by later runs.
    """
    build = Build(mesh)
    missing = {
        cluster: tuple(n for n in PROBE_NAMESPACES if _is_for_us_to_make(cluster.kube.find("Namespace", n)))
        for cluster in mesh.clusters
    }
    if not any(missing.values()):
        return {}
    settings = MeshWideSettings.of(mesh)
    try:
        with narrator.step("probe namespaces"):
            together(
                lambda cluster: _add_probes(build, settings, cluster, missing[cluster], lasting=lasting), mesh.clusters
            )
    except BaseException:
        build.aborted.set()  # after an interrupt other threads still wait for pods, and the process would wait for them
        remove_probes(missing, narrator)
        raise
    return missing


def _is_for_us_to_make(namespace: Json | None) -> bool:
    """Missing, terminating, or left by a killed run."""
    if namespace is None or "deletionTimestamp" in namespace["metadata"]:
        return True
    return MADE_FOR_A_RUN in (namespace["metadata"].get("annotations") or {})


def _add_probes(
    build: Build, settings: MeshWideSettings, cluster: Cluster, missing: tuple[str, ...], *, lasting: bool
) -> None:
    for manifest in namespaces(cluster.spec):
        if manifest["metadata"]["name"] in missing:
            if not lasting:
                manifest["metadata"].setdefault("annotations", {})[MADE_FOR_A_RUN] = "true"
            build.apply_namespace(cluster, manifest, settings.selectors)
    if cluster.is_primary:
        for item in (item for name in missing for item in settings.objects(cluster, name)):
            bring(cluster, item)
    injected = tuple(name for name in missing if name in INJECTED_NAMESPACES)
    if injected:  # a pod created before istiod's root is in its namespace waits long for it
        wait_for_injection(cluster.kube, injected, timeout_s=OBJECTS_S, aborted=build.aborted)
    pods_must_be_admitted(build.mesh, cluster, missing)
    if names.APP_NAMESPACE in missing:
        build.start_app(cluster)
        if cluster.is_primary:
            build.apply_app_configuration(cluster)
    if names.CLIENT_NAMESPACE in missing:
        build.start_client(cluster)
    if names.OUTSIDE_NAMESPACE in missing:
        build.start_outside_client(cluster)


def remove_probes(made: Mapping[Cluster, tuple[str, ...]], narrator: Narrator) -> None:
    """Remove what `add_probes` created."""
    if not any(made.values()):
        return
    with narrator.step("probe namespaces removed"):
        together(lambda item: remove_these_namespaces(item[0].kube, item[1], aborted=threading.Event()), made.items())
