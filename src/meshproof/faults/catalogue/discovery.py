"""Faults of discovery: remote secrets, their tokens and rights, and what both sides must have in common."""

from __future__ import annotations

import base64
from typing import Final

from meshproof.clients.kubernetes.client import Json
from meshproof.core import names
from meshproof.faults import undo
from meshproof.faults.catalogue.common import (
    ACROSS,
    CANARY,
    NEW_PODS,
    PATH_ACROSS,
    TRAFFIC_ACROSS,
    edit_mesh_config,
    edit_reader_rights,
    revoke_tokens,
    without_label,
)
from meshproof.faults.editor import JournalledEditor
from meshproof.faults.fault import Fault, mesh_is_unhealthy

SECRET_LABEL: Final = "istio/multiCluster"
SECRET_CLUSTER: Final = "networking.istio.io/cluster"
APP: Final = ("Service", names.APP_SERVICE, names.APP_NAMESPACE)
NOWHERE: Final = "https://192.0.2.1:6443"
"""TEST-NET-1 (RFC 5737): an address without a host."""

UNKNOWN_CLUSTER: Final = (
    "DISCOVERY-02",
    "DISCOVERY-04",
    "DISCOVERY-05",
    "DISCOVERY-06",
    "DISCOVERY-07",
    "GATEWAYS-02",
    "GATEWAYS-03",
    "GATEWAYS-04",
    "GATEWAYS-07",
    "GATEWAYS-10",
    "CONTROL-01",
    "CONTROL-03",
    "CONTROL-04",
    "CONTROL-06",
    *NEW_PODS,
    *ACROSS,
)
"""Fail where an istiod does not know a cluster: its services, and its new pods if it controls that cluster."""


def _secret_of_far(editor: JournalledEditor) -> tuple[str, str, str]:
    return "Secret", f"istio-remote-secret-{editor.far}", names.SYSTEM_NAMESPACE


def _no_secret(editor: JournalledEditor) -> None:
    editor.remove(editor.near, *_secret_of_far(editor))


def _unlabelled_secret(editor: JournalledEditor) -> None:
    editor.edit(editor.near, *_secret_of_far(editor), without_label(SECRET_LABEL))


def _wrong_server(editor: JournalledEditor) -> None:
    def change(secret: Json) -> None:
        for key, text in secret["data"].items():
            config = base64.b64decode(text).decode()
            config = config.replace(editor.far.access.server_for_peers, NOWHERE)
            secret["data"][key] = base64.b64encode(config.encode()).decode()

    editor.edit(editor.near, *_secret_of_far(editor), change)


def _other_name(editor: JournalledEditor) -> None:
    """Like create-remote-secret with another --name.

    (Renaming the key in place, and back, makes istiod 1.31 drop the cluster until a restart or a new secret.)
    """
    original = editor.remove(editor.near, *_secret_of_far(editor))
    wrong = f"{editor.far.name}-old"
    (kubeconfig,) = original["data"].values()
    meta = original["metadata"] | {"name": f"istio-remote-secret-{wrong}", "annotations": {SECRET_CLUSTER: wrong}}
    editor.add(editor.near, undo.bare(original | {"metadata": meta, "data": {wrong: kubeconfig}}))


def _token_revoked(editor: JournalledEditor) -> None:
    revoke_tokens(editor)
    editor.restart_api_server(editor.far)


def _fewer_rights(editor: JournalledEditor) -> None:
    edit_reader_rights(editor, "endpointslices", lambda verbs: [verb for verb in verbs if verb != "watch"])


def _no_service(editor: JournalledEditor) -> None:
    editor.remove(editor.near, *APP)


def _other_port(editor: JournalledEditor) -> None:
    def change(service: Json) -> None:
        for port in service["spec"]["ports"]:
            port["port"] = 8000

    editor.edit(editor.far, *APP, change)


def _cluster_local(editor: JournalledEditor) -> None:
    setting = {"serviceSettings": [{"settings": {"clusterLocal": True}, "hosts": [names.APP_FQDN]}]}
    edit_mesh_config(editor, editor.near, setting)


def _not_exported(editor: JournalledEditor) -> None:
    def change(service: Json) -> None:
        service["metadata"].setdefault("annotations", {})["networking.istio.io/exportTo"] = "."

    editor.edit(editor.near, *APP, change)


DISCOVERY: Final = (
    Fault(
        id="S1",
        sentence="the remote secret is missing",
        seen="only local endpoints respond, with status 200",
        source="istio.io, Troubleshooting Multicluster; istio/istio discussions on 'no remote endpoints'",
        kills=("DISCOVERY-01", "DISCOVERY-02"),
        also=UNKNOWN_CLUSTER,
        inject=_no_secret,
        has_taken_effect=mesh_is_unhealthy,
    ),
    Fault(
        id="S2",
        sentence="the remote secret has no label istio/multiCluster",
        seen="only local endpoints respond, although the secret exists",
        source="secrets copied by external-secrets and the like, without labels",
        kills=("DISCOVERY-01", "DISCOVERY-02", "DISCOVERY-04"),
        also=UNKNOWN_CLUSTER,
        inject=_unlabelled_secret,
        has_taken_effect=mesh_is_unhealthy,
    ),
    Fault(
        id="S3",
        sentence="the API server address in the remote secret is unreachable from the other cluster",
        seen="istioctl remote-clusters reports 'timeout'; only local endpoints respond",
        source="kind and minikube write 127.0.0.1 into kubeconfigs; istio.io, create-remote-secret --server",
        kills=("DISCOVERY-01", "DISCOVERY-04"),
        also=UNKNOWN_CLUSTER,
        inject=_wrong_server,
        has_taken_effect=mesh_is_unhealthy,
    ),
    Fault(
        id="S4",
        sentence="the token in the remote secret was revoked, and every open watch has ended since",
        seen="endpoints are no longer updated; istioctl remote-clusters still reports synced",
        source="istio/istio issues on expired remote secret tokens; client-go keeps retrying silently",
        kills=("DISCOVERY-03", "DISCOVERY-04"),
        also=(*NEW_PODS, "DISCOVERY-05", "DISCOVERY-08", "CONTROL-03", "GATEWAYS-04", "GATEWAYS-05", "GATEWAYS-10"),
        note="the API server is restarted to end the watches, so istiod keeps a state without its endpoint",
        inject=_token_revoked,
    ),
    Fault(
        id="S5",
        sentence="the reader role lacks the verb watch for EndpointSlices",
        seen="endpoints of that cluster become stale",
        source="hardened RBAC; role of an older version that an upgrade left unchanged",
        kills=("DISCOVERY-04",),
        also=(*CANARY, "DISCOVERY-06", "TRAFFIC-03", "TRAFFIC-04", "TRAFFIC-09"),
        inject=_fewer_rights,
    ),
    Fault(
        id="S7",
        sentence="the cluster name in the remote secret differs from the name that the cluster itself uses",
        seen="new sidecars in a remote never become ready",
        source="istio/istio issues on 'authentication failure' with clusterName; istio.io, clusterName",
        kills=("DISCOVERY-01", "DISCOVERY-04", "DISCOVERY-07"),
        also=UNKNOWN_CLUSTER,
        inject=_other_name,
        has_taken_effect=mesh_is_unhealthy,
    ),
    Fault(
        id="P3",
        sentence="the Service is missing in the client's cluster",
        seen="its name does not resolve there",
        source="istio.io, Deployment models, namespace sameness: the Service must exist in the client's cluster",
        kills=("DISCOVERY-06",),
        also=("TRAFFIC-10", "DISCOVERY-02", *ACROSS, "GATEWAYS-02", "GATEWAYS-03", "CONTROL-03", "TRAFFIC-08"),
        inject=_no_service,
        has_taken_effect=mesh_is_unhealthy,
    ),
    Fault(
        id="P4",
        sentence="the Service has a different port in one cluster",
        seen="only local endpoints respond",
        source="istio.io, namespace sameness; charts of different versions in the two clusters",
        kills=("DISCOVERY-06", "DISCOVERY-02"),
        also=("TRAFFIC-10", *ACROSS, "GATEWAYS-02", "GATEWAYS-03", "TRAFFIC-08"),
        inject=_other_port,
        has_taken_effect=mesh_is_unhealthy,
    ),
    Fault(
        id="P5",
        sentence="the mesh configuration of one primary makes the service cluster-local",
        seen="only local endpoints respond, with status 200",
        source="istio.io, Configure mesh-wide clusterLocal, with a host pattern that is too wide",
        kills=("DISCOVERY-02",),
        also=(*TRAFFIC_ACROSS, "TRAFFIC-07", *PATH_ACROSS, *CANARY, "CONTROL-05"),
        inject=_cluster_local,
        has_taken_effect=mesh_is_unhealthy,
    ),
    Fault(
        id="P6",
        sentence="the Service is exported to its own namespace only",
        seen="clients in other namespaces fail or bypass the mesh",
        source="istio.io, networking.istio.io/exportTo",
        kills=("DISCOVERY-02",),
        also=(
            "TRAFFIC-10",
            *ACROSS,
            "DISCOVERY-06",
            "GATEWAYS-02",
            "GATEWAYS-03",
            "CONTROL-05",
            "TRAFFIC-08",
            "CONTROL-03",
        ),
        inject=_not_exported,
        has_taken_effect=mesh_is_unhealthy,
    ),
)
