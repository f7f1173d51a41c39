"""Our namespaces: each brings the labels and Istio objects that our workloads need under the mesh's own settings.

What an operator sets for all namespaces (discovery selectors, a default Sidecar, a policy that allows nothing) is
legal, and must neither hide our services nor refuse their callers. So a namespace of ours gets the exceptions that an
application's would get. It gets none that the mesh does not call for: then it is like any other, and a fault in it is
seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from meshproof.clients.istio.configuration import PROBE_PREFIX, istio
from meshproof.clients.kubernetes.client import FORBIDDEN, ApiError, Json
from meshproof.clients.kubernetes.manifests import core, metadata, pulls_with
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.errors import BadInput, Broken
from meshproof.mesh.configuration import apply_config
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.mesh_config import mesh_config, root_namespace
from meshproof.workloads.discovery_selectors import Selectors, labels_for

INJECTION_LABELS: Final = ("istio-injection", names.REVISION_LABEL)
ACCOUNT: Final = "default"
OWN: Final = f"{PROBE_PREFIX}own"
"""Name of the objects that a namespace of ours brings; they are temporary, like other objects of probes."""
EVERYTHING: Final = "*/*"
"""Hosts that our proxies import: all that are exported to them, as without any Sidecar. A list of our namespaces would
not do: those of test beds have random names, and it would hide what claims are to find."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshWideSettings:
    """What the mesh's operator sets for all namespaces, by the name of the primary that has it.

    `sidecars` has the spec of each default Sidecar, `closed` a policy for which what is not allowed is denied,
    `denying` the policies that deny requests in all namespaces, or have somebody else decide.
    """

    selectors: Mapping[str, Selectors]
    sidecars: Mapping[str, Json]
    closed: Mapping[str, str]
    denying: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, mesh: Mesh) -> MeshWideSettings:
        """Read them from every primary. What may not be read counts as not set."""
        found = dict(zip((p.name for p in mesh.primaries), together(_read, mesh.primaries), strict=True))
        return cls(
            selectors={str(name): each.selectors for name, each in found.items()},
            sidecars={str(name): each.sidecar for name, each in found.items() if each.sidecar is not None},
            closed={str(name): each.closed for name, each in found.items() if each.closed},
            denying={str(name): each.denying for name, each in found.items() if each.denying},
        )

    def objects(self, primary: Cluster, namespace: str, *, guarded: bool = False) -> tuple[Json, ...]:
        """What a namespace of ours needs in the configuration of one primary.

        With `guarded` it has AuthorizationPolicies of its own, which allow what they should.
        """
        found = []
        if (default := self.sidecars.get(primary.name)) is not None:
            kept = {key: default[key] for key in ("outboundTrafficPolicy",) if key in default}
            found.append(istio("Sidecar", OWN, namespace, {"egress": [{"hosts": [EVERYTHING]}], **kept}))
        if primary.name in self.closed and not guarded:
            # Open to all, as a namespace is without any policy: a refusal of ours would stand before the mesh's.
            found.append(istio("AuthorizationPolicy", OWN, namespace, {"action": "ALLOW", "rules": [{}]}))
        return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class _OfPrimary:
    selectors: Selectors
    sidecar: Json | None
    closed: str
    denying: tuple[str, ...]


def _read(primary: Cluster) -> _OfPrimary:
    config = mesh_config(primary)
    root = root_namespace(config)
    sidecars = [
        found.get("spec") or {} for found in _oldest_first(objects_of(primary, "Sidecar", root)) if _is_for_all(found)
    ]
    policies = [found for found in objects_of(primary, "AuthorizationPolicy", root) if _is_for_all(found)]
    by_action: dict[str, list[str]] = {}
    for found in policies:
        name = f"{root}/{found['metadata']['name']}"
        by_action.setdefault((found.get("spec") or {}).get("action", "ALLOW"), []).append(name)
    return _OfPrimary(
        selectors=config.get("discoverySelectors") or [],
        sidecar=sidecars[0] if sidecars else None,
        closed=by_action.get("ALLOW", [""])[0],
        denying=(*by_action.get("DENY", ()), *by_action.get("CUSTOM", ())),
    )


def objects_of(primary: Cluster, kind: str, namespace: str | None = None, *, labels: str = "") -> list[Json]:
    """The objects of a kind in a namespace, or in all; none where they may not be read, or Istio's CRD is missing."""
    try:
        return primary.kube.list(kind, namespace, labels=labels)
    except ApiError as problem:
        if problem.status in (FORBIDDEN, 404):
            return []
        raise


def _is_for_all(item: Json) -> bool:
    """Whether it applies to all workloads: of its namespace, or of all if that is the root namespace."""
    spec = item.get("spec") or {}
    return not any(spec.get(key) for key in ("workloadSelector", "selector", "targetRef", "targetRefs"))


def is_like(found: Json, item: Json) -> bool:
    """Whether somebody's object in a namespace of ours has the effect for which `item` would be there."""
    if found["metadata"]["name"] == OWN or not _is_for_all(found):
        return False
    return bool(item["kind"] == "Sidecar" or (found.get("spec") or {}).get("action", "ALLOW") == "ALLOW")


def _oldest_first(items: Iterable[Json]) -> list[Json]:
    """istiod takes the oldest of several default Sidecars (pilot, push_context.go, `initSidecarScopes`)."""
    return sorted(items, key=lambda item: str(item["metadata"].get("creationTimestamp", "")))


# -- making a namespace -----------------------------------------------------------------------------------------------


def make_namespaces(mesh: Mesh, clusters: Sequence[Cluster], name: str, *, guarded: bool = False) -> None:
    """Create a namespace for injected probes in these clusters, with what it needs in their primaries.

    The primaries must be among the clusters, or have none of the settings. Raises `Broken` if the clients' namespace
    has no injection label to copy.
    """
    settings = MeshWideSettings.of(mesh)
    together(lambda cluster: _make(settings, cluster, name), clusters)
    own = [(p, item) for p in clusters if p.is_primary for item in settings.objects(p, name, guarded=guarded)]
    together(lambda pair: bring(*pair), own)


def _make(settings: MeshWideSettings, cluster: Cluster, name: str) -> None:
    cluster.kube.create(namespace_for_probes(settings, cluster, name))
    give_pull_secret(cluster, name)


def namespace_for_probes(settings: MeshWideSettings, cluster: Cluster, name: str) -> Json:
    """A Namespace with the client namespace's injection labels. Raises `Broken` if that one has none."""
    model = cluster.kube.find("Namespace", names.CLIENT_NAMESPACE)
    labels = (model or {}).get("metadata", {}).get("labels") or {}
    chosen = {key: value for key, value in labels.items() if key in INJECTION_LABELS}
    if not chosen:
        raise Broken(
            f"namespace {names.CLIENT_NAMESPACE} on {cluster}",
            "it has no injection label",
            "install the mesh again",
        )
    labels = {**chosen, **labels_for(name, chosen, settings.selectors)}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def bring(primary: Cluster, item: Json) -> None:
    """Apply an object that a namespace of ours needs. Raises `BadInput` if the user may not."""
    try:
        apply_config(primary, item)
    except ApiError as problem:
        if problem.status != FORBIDDEN:
            raise
        kind, namespace = item["kind"], item["metadata"]["namespace"]
        raise BadInput(
            f"{kind} {namespace}/{OWN} on {primary}",
            f"the mesh has a default {kind}, so that {namespace} needs one of its own: {problem.reason}",
            "grant the ClusterRole meshproof-strict-meshes (deploy/clusterrole.yaml)",
        ) from None


def give_pull_secret(cluster: Cluster, namespace: str) -> None:
    """Copy the pull secret, if one is configured, into our namespace and its default service account."""
    wanted = cluster.access.pull_secret
    if wanted is None:
        return
    found = cluster.kube.find("Secret", wanted.name, wanted.namespace) or {}
    copy = core("Secret", metadata(wanted.name, namespace), data=found.get("data") or {})
    cluster.kube.apply(copy | {"type": found.get("type", "Opaque")})
    cluster.kube.apply(core("ServiceAccount", metadata(ACCOUNT, namespace), **pulls_with(wanted)))
