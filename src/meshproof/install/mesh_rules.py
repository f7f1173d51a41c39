"""Rules of the operator that forbid our probes whatever they bring: reported once, before anything else runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from meshproof.clients.kubernetes.client import Json
from meshproof.clients.kubernetes.refusals import is_refused_for_good
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.errors import BadInput, NotReady
from meshproof.core.waiting import NotYet, eventually
from meshproof.install.injection import POLICY_REPAIR
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.objects import pod_facts
from meshproof.probes.admission import DryRun, dry_run
from meshproof.probes.http import app_url, http_from_pod
from meshproof.workloads.app import app_manifests, client_manifest
from meshproof.workloads.namespaces import MeshWideSettings
from meshproof.workloads.pod_settings import PodSettings

ALLOWED_S: Final = 15.0
"""How long a refused request is repeated: policies reach a sidecar some seconds after it has started."""


def pods_must_be_admitted(mesh: Mesh, cluster: Cluster, namespaces: Iterable[str]) -> None:
    """Create the pods of these probe namespaces in dry runs. Raises `BadInput` with all refusals."""
    settings = PodSettings.of(mesh, cluster)
    pods = [settings.applied_to(_pod_of(manifest)) for manifest in _deployments(mesh, cluster, set(namespaces))]
    refused = {
        pod["metadata"]["namespace"]: answer.words
        for pod, answer in zip(pods, together(lambda pod: dry_run(cluster.kube, pod), pods), strict=True)
        if answer.verdict is DryRun.REFUSED and is_refused_for_good(answer.words)
    }
    if refused:
        raise BadInput(
            f"pods of {', '.join(refused)} on {cluster}",
            f"a rule of the cluster refuses them: {'; '.join(dict.fromkeys(refused.values()))}",
            POLICY_REPAIR,
        )


def _deployments(mesh: Mesh, cluster: Cluster, namespaces: set[str]) -> list[Json]:
    images = mesh.toolbox.images
    found = [m for m in app_manifests(cluster.spec, images["app"]) if m["kind"] == "Deployment"]
    found += [client_manifest(name, images["client"]) for name in (names.CLIENT_NAMESPACE, names.OUTSIDE_NAMESPACE)]
    return [manifest for manifest in found if manifest["metadata"]["namespace"] in namespaces]


def _pod_of(manifest: Json) -> Json:
    """The Deployment's pod, under the default service account: its own may not exist yet."""
    template = manifest["spec"]["template"]
    meta = template["metadata"] | {"name": "meshproof-dry-run", "namespace": manifest["metadata"]["namespace"]}
    spec = {key: value for key, value in template["spec"].items() if key != "serviceAccountName"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def requests_must_be_allowed(mesh: Mesh, settings: MeshWideSettings) -> None:
    """Send a request from each client to the application, where policies deny requests in all namespaces.

    Raises `BadInput` with their names if it is refused. Any other answer is for the claims to judge.
    """
    if settings.denying:
        together(lambda cluster: _must_be_allowed(mesh, cluster, settings), mesh.clusters)


def _must_be_allowed(mesh: Mesh, cluster: Cluster, settings: MeshWideSettings) -> None:
    pods = cluster.kube.list("Pod", names.CLIENT_NAMESPACE, labels=f"app={names.CLIENT_POD}")
    clients = [pod_facts(pod) for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def allowed() -> None:
        if any(answer.status == 403 for answer in http_from_pod(cluster.kube, clients[0], app_url(), 4)):
            raise NotYet("HTTP 403")

    if not clients:
        return
    try:
        eventually(allowed, what="requests of our client are allowed", timeout_s=ALLOWED_S)
    except NotReady:
        policies = settings.denying.get(mesh.control_plane_of(cluster).name) or sorted(
            {name for found in settings.denying.values() for name in found}
        )
        raise BadInput(
            f"requests from {names.CLIENT_NAMESPACE} to {names.APP_NAMESPACE} on {cluster}",
            f"HTTP 403, and these AuthorizationPolicies deny or decide requests in all namespaces: "
            f"{', '.join(policies)}",
            "exempt namespaces whose names begin with meshproof- (source.notNamespaces: meshproof-*)",
        ) from None
