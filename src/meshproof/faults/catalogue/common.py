"""What several faults share: claims that fall together, and small edits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import yaml

from meshproof.claims.claim import Need
from meshproof.clients.istio.configuration import istio
from meshproof.clients.istio.istioctl import READER_ACCOUNT
from meshproof.clients.kubernetes.client import Json
from meshproof.core import names
from meshproof.core.errors import Broken
from meshproof.core.model import GatewayRef
from meshproof.faults.components import reader_tokens
from meshproof.faults.editor import JournalledEditor
from meshproof.faults.undo import ISTIOD
from meshproof.mesh.handles import Cluster

TRAFFIC_ACROSS: Final = ("TRAFFIC-01", "TRAFFIC-02", "TRAFFIC-03", "TRAFFIC-04", "TRAFFIC-05", "TRAFFIC-09")
"""Fall wherever requests cannot cross from one cluster to the other, or answers of one version are missing."""

IDENTITY_ACROSS: Final = ("TRAFFIC-06", "TRAFFIC-07", "TRUST-06")
"""Need a request to cross as their positive control."""

PATH_ACROSS: Final = ("GATEWAYS-08", "GATEWAYS-10", "TRUST-05")

CANARY: Final = ("DISCOVERY-03", "DISCOVERY-08", "DISCOVERY-09")
"""Make something in one cluster and wait until the other sees it."""

ACROSS: Final = (*TRAFFIC_ACROSS, *IDENTITY_ACROSS, *PATH_ACROSS, *CANARY)

NEW_SERVICES_ACROSS: Final = ("TRAFFIC-03", "TRAFFIC-04", "TRAFFIC-05", "TRAFFIC-06", "TRAFFIC-07", "TRAFFIC-09")
"""Need requests to services of our own to cross."""

NEW_PODS: Final = ("CONTROL-02", "DISCOVERY-09", "TRAFFIC-08", *NEW_SERVICES_ACROSS)
"""Are proven on injected pods of our own."""

REMOTE_ON_OTHER_NETWORK: Final = Need(
    name="a remote on another network",
    applies=lambda t: any(t.crosses_network(t.control_plane_of(remote), remote) for remote in t.remotes),
    otherwise="no remote is on another network than its primary",
)
SHARED_NETWORK_ONLY: Final = Need(
    name="one network",
    applies=lambda t: len(t.networks) == 1,
    otherwise="pods of different networks do not reach each other anyway",
)

HAS_INGRESS: Final = Need(
    name="an ingress gateway in the first primary",
    applies=lambda t: t.primaries[0].ingress is not None,
    otherwise="the first primary has no ingress gateway",
)

READER_ROLE: Final = "istio-reader-clusterrole"
"""The rights of the account whose token is in remote secrets; revision and namespace follow in its name."""


def gateway_service(gateway: GatewayRef) -> tuple[str, str, str]:
    """The object of a gateway's Service, as a editor names it."""
    return "Service", gateway.name, gateway.namespace


def ingress_of(cluster: Cluster) -> GatewayRef:
    """Raises `Broken` if it has none: a fault about it needs one."""
    if cluster.spec.ingress is None:
        raise Broken(f"ingress gateway of {cluster}", "the topology says that it has none", "choose another fault")
    return cluster.spec.ingress


def gateway_deployment(gateway: GatewayRef) -> tuple[str, str, str]:
    return "Deployment", gateway.name, gateway.namespace


def config(kind: str, name: str, spec: Json, namespace: str = names.APP_NAMESPACE) -> Json:
    """A configuration object of Istio's, beside the application where nothing else is said."""
    return istio(kind, name, namespace, spec)


def edit_mesh_config(editor: JournalledEditor, cluster: Cluster, changes: Mapping[str, object]) -> None:
    """Set these top-level fields of the mesh's configuration, which istiod follows."""

    def change(found: Json) -> None:
        mesh = yaml.safe_load(found["data"]["mesh"]) or {}
        found["data"]["mesh"] = yaml.safe_dump({**mesh, **changes})

    name = names.of_revision(names.MESH_CONFIG, cluster.spec.revision)
    editor.edit(cluster, "ConfigMap", name, names.SYSTEM_NAMESPACE, change)


def edit_reader_rights(
    editor: JournalledEditor, resource: str, verbs: Callable[[Sequence[str]], Sequence[str]]
) -> None:
    """Change the verbs that the far cluster's reader role has for a resource."""

    def change(role: Json) -> None:
        for rule in role["rules"]:
            if resource in rule.get("resources", []):
                rule["verbs"] = list(verbs(rule["verbs"]))

    name = f"{names.of_revision(READER_ROLE, editor.far.spec.revision)}-{names.SYSTEM_NAMESPACE}"
    editor.edit(editor.far, "ClusterRole", name, None, change)


def revoke_tokens(editor: JournalledEditor) -> None:
    """Delete the tokens by which the far cluster is read; watches that are open go on."""
    tokens = reader_tokens(editor.far)
    if not tokens:
        raise Broken(f"token of {READER_ACCOUNT} on {editor.far}", "there is none", "make the remote secret again")
    # With each refusal istiod waits longer before it tries again: up to half a minute when all is healthy again.
    editor.restart_when_healed(editor.near, ISTIOD)
    for name in tokens:
        editor.remove(editor.far, "Secret", name, names.SYSTEM_NAMESPACE)


def without_label(key: str) -> Callable[[Json], None]:
    def change(thing: Json) -> None:
        (thing["metadata"].get("labels") or {}).pop(key, None)

    return change
