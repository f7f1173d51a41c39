"""Common parts of faults: groups of claims that fail together, and edits."""

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
"""Fail wherever requests cannot cross clusters, or one version does not respond."""

IDENTITY_ACROSS: Final = ("TRAFFIC-06", "TRAFFIC-07", "TRUST-06")
"""Need a request across clusters as their positive control."""

PATH_ACROSS: Final = ("GATEWAYS-08", "GATEWAYS-10", "TRUST-05")

CANARY: Final = ("DISCOVERY-03", "DISCOVERY-08", "DISCOVERY-09")
"""Create something in one cluster and wait until the other sees it."""

ACROSS: Final = (*TRAFFIC_ACROSS, *IDENTITY_ACROSS, *PATH_ACROSS, *CANARY)

NEW_SERVICES_ACROSS: Final = ("TRAFFIC-03", "TRAFFIC-04", "TRAFFIC-05", "TRAFFIC-06", "TRAFFIC-07", "TRAFFIC-09")
"""Need requests across clusters to services of our own."""

NEW_PODS: Final = ("CONTROL-02", "DISCOVERY-09", "TRAFFIC-08", *NEW_SERVICES_ACROSS)
"""Use injected pods of our own."""

REMOTE_ON_OTHER_NETWORK: Final = Need(
    name="a remote on another network",
    applies=lambda t: any(t.crosses_network(t.control_plane_of(remote), remote) for remote in t.remotes),
    otherwise="every remote is on the network of its primary",
)
SHARED_NETWORK_ONLY: Final = Need(
    name="one network",
    applies=lambda t: len(t.networks) == 1,
    otherwise="pods of different networks cannot connect to each other anyway",
)

HAS_INGRESS: Final = Need(
    name="an ingress gateway in the first primary",
    applies=lambda t: t.primaries[0].ingress is not None,
    otherwise="the first primary has no ingress gateway",
)

READER_ROLE: Final = "istio-reader-clusterrole"
"""ClusterRole of the account whose token is in remote secrets; its name continues with revision and namespace."""


def gateway_service_key(gateway: GatewayRef) -> tuple[str, str, str]:
    """A gateway's Service, as arguments of the editor."""
    return "Service", gateway.name, gateway.namespace


def ingress_of(cluster: Cluster) -> GatewayRef:
    """The ingress gateway. Raises `Broken` if the cluster has none."""
    if cluster.spec.ingress is None:
        raise Broken(f"ingress gateway of {cluster}", "the topology has none", "choose another fault")
    return cluster.spec.ingress


def gateway_deployment_key(gateway: GatewayRef) -> tuple[str, str, str]:
    return "Deployment", gateway.name, gateway.namespace


def config(kind: str, name: str, spec: Json, namespace: str = names.APP_NAMESPACE) -> Json:
    """An Istio configuration object, by default in the application's namespace."""
    return istio(kind, name, namespace, spec)


def edit_mesh_config(editor: JournalledEditor, cluster: Cluster, changes: Mapping[str, object]) -> None:
    """Set these top-level fields of the mesh configuration; istiod reloads it."""

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
    """Revoke the tokens with which the far cluster is read; open watches continue."""
    tokens = reader_tokens(editor.far)
    if not tokens:
        raise Broken(f"token of {READER_ACCOUNT} on {editor.far}", "there is none", "create the remote secret again")
    # istiod's retries back off: up to half a minute after recovery.
    editor.restart_when_healed(editor.near, ISTIOD)
    for name in tokens:
        editor.remove(editor.far, "Secret", name, names.SYSTEM_NAMESPACE)


def without_label(key: str) -> Callable[[Json], None]:
    def change(thing: Json) -> None:
        (thing["metadata"].get("labels") or {}).pop(key, None)

    return change
