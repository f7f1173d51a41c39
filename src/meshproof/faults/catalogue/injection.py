"""Faults of injection, control planes and admission."""

from __future__ import annotations

import base64
from typing import Final

from meshproof.claims.claim import REMOTES
from meshproof.clients.kubernetes.client import Json
from meshproof.core import names
from meshproof.core.names import INJECTOR_LABEL
from meshproof.faults.catalogue.common import NEW_PODS, REMOTE_ON_OTHER_NETWORK, edit_reader_rights
from meshproof.faults.editor import JournalledEditor
from meshproof.faults.fault import Fault, mesh_is_unhealthy, stays
from meshproof.faults.undo import ISTIOD
from meshproof.health.mesh import must_be_healthy
from meshproof.mesh.handles import Cluster
from meshproof.pki import issue as pki

MUTATING: Final = "MutatingWebhookConfiguration"
VALIDATING: Final = "ValidatingWebhookConfiguration"


def injectors(cluster: Cluster) -> list[str]:
    return [found["metadata"]["name"] for found in cluster.kube.list(MUTATING, labels=INJECTOR_LABEL)]


def _validators(cluster: Cluster) -> list[str]:
    names_there = [found["metadata"]["name"] for found in cluster.kube.list(VALIDATING)]
    return [name for name in names_there if name.startswith("istio")]


def _edit_injectors(editor: JournalledEditor, key: str, value: object, *, inside: str = "") -> None:
    """Set a field of clientConfig (or of its field `inside`) in all injection webhooks of the far cluster."""

    def change(configuration: Json) -> None:
        for webhook in configuration["webhooks"]:
            target = webhook["clientConfig"][inside] if inside else webhook["clientConfig"]
            target[key] = value

    for name in injectors(editor.far):
        editor.edit(editor.far, MUTATING, name, None, change)


def _other_ca(editor: JournalledEditor) -> None:
    other = base64.b64encode(pki.pem_of(pki.make_root().cert)).decode()
    _edit_injectors(editor, "caBundle", other)


def _other_ca_for_good(editor: JournalledEditor) -> None:
    edit_reader_rights(editor, "mutatingwebhookconfigurations", lambda _: ["get", "list", "watch"])
    _other_ca(editor)


def _no_control_plane_annotation(editor: JournalledEditor) -> None:
    def change(namespace: Json) -> None:
        namespace["metadata"]["annotations"].pop(names.CONTROL_PLANES_ANNOTATION, None)

    editor.edit(editor.far, "Namespace", names.SYSTEM_NAMESPACE, None, change)
    # istiod reads the annotation only when it first connects to the cluster.
    editor.restart((editor.near,), ISTIOD)
    # A restarted istiod needs a moment until it injects in the far cluster and has its endpoints.
    must_be_healthy(editor.mesh, leaders=False)


def _other_network(editor: JournalledEditor) -> None:
    path = f"/inject/cluster/{editor.far.name}/net/{editor.near.network}"
    _edit_injectors(editor, "path", path, inside="service")


def _other_cluster(editor: JournalledEditor) -> None:
    path = f"/inject/cluster/{editor.near.name}/net/{editor.far.network}"
    _edit_injectors(editor, "path", path, inside="service")


def _stopped(editor: JournalledEditor) -> None:
    editor.stop_istiod(editor.near)


def _no_injector(editor: JournalledEditor) -> None:
    for name in injectors(editor.far):
        editor.remove(editor.far, MUTATING, name, None)


def _validator_of_removed_revision(editor: JournalledEditor) -> None:
    def change(configuration: Json) -> None:
        for webhook in configuration["webhooks"]:
            webhook["clientConfig"]["service"]["name"] = "istiod-1-30-0"

    for name in _validators(editor.near):
        editor.edit(editor.near, VALIDATING, name, None, change)


def _no_validator(editor: JournalledEditor) -> None:
    for name in _validators(editor.near):
        editor.remove(editor.near, VALIDATING, name, None)


INJECTION: Final = (
    Fault(
        id="I1",
        sentence="the remote's injection webhook has the wrong caBundle, and istiod may not correct it",
        seen="pods are rejected: x509: certificate signed by unknown authority",
        source="GitOps tools that manage the webhook; istio/istio issues on caBundle in external control planes",
        needs=(REMOTES,),
        kills=("GATEWAYS-05", "CONTROL-02"),
        also=("CONTROL-01", "DISCOVERY-04", "TRUST-09", *NEW_PODS),
        inject=_other_ca_for_good,
        has_taken_effect=mesh_is_unhealthy,
    ),
    Fault(
        id="I1B",
        sentence="the caBundle of the remote's injection webhook was overwritten",
        seen="nothing, if istiod may update the webhook",
        source="same cause as I1",
        needs=(REMOTES,),
        kills=("CONTROL-02",),
        note="istiod restores it at once",
        inject=_other_ca,
        has_taken_effect=stays,
    ),
    Fault(
        id="I2",
        sentence="the remote's istio-system lacks the annotation topology.istio.io/controlPlaneClusters",
        seen="new namespaces get no root certificate, so their pods do not start",
        source="istio.io, Install Primary-Remote: set the control plane cluster for cluster2",
        needs=(REMOTES,),
        kills=("CONTROL-02",),
        also=NEW_PODS,
        inject=_no_control_plane_annotation,
    ),
    Fault(
        id="I3",
        sentence="the injection path of the remote's webhook has another network",
        seen="new pods are assigned to that network and get its endpoints",
        source="istio.io, Install Primary-Remote, injectionPath copied from the other cluster",
        needs=(REMOTE_ON_OTHER_NETWORK,),
        kills=("CONTROL-02", "DISCOVERY-07"),
        also=(*NEW_PODS, "DISCOVERY-02"),
        inject=_other_network,
    ),
    Fault(
        id="I4",
        sentence="the injection path of the remote's webhook has another cluster",
        seen="new pods never become ready: istiod rejects their identity",
        source="istio.io, Install Primary-Remote, injectionPath copied from the other cluster",
        needs=(REMOTES,),
        kills=("CONTROL-02", "DISCOVERY-07"),
        also=NEW_PODS,
        inject=_other_cluster,
    ),
    Fault(
        id="I5",
        sentence="one cluster has no injection webhook",
        seen="new pods start without a sidecar, outside every policy",
        source="istioctl uninstall of another revision; GitOps pruning",
        kills=("CONTROL-02",),
        also=("CONTROL-01", "GATEWAYS-05", "DISCOVERY-07", "TRUST-09", *NEW_PODS),
        inject=_no_injector,
        has_taken_effect=mesh_is_unhealthy,
    ),
    Fault(
        id="F5",
        sentence="istiod of one cluster has no replica",
        seen="traffic works; new pods and configuration changes are rejected",
        source="istio.io, Deployment models; a drain, a quota, an image that cannot be pulled",
        kills=("CONTROL-02", "CONTROL-07"),
        also=(
            "DISCOVERY-01",
            "DISCOVERY-03",
            "DISCOVERY-04",
            "DISCOVERY-05",
            "DISCOVERY-06",
            "DISCOVERY-07",
            "GATEWAYS-04",
            "GATEWAYS-05",
            "GATEWAYS-07",
            "CONTROL-01",
            "CONTROL-03",
            "CONTROL-04",
            "CONTROL-05",
            "CONTROL-06",
            "TRAFFIC-08",
            "TRUST-07",
            "TRUST-08",
            "TRUST-09",
            "GATEWAYS-01",
            "GATEWAYS-06",
            *NEW_PODS,
        ),
        inject=_stopped,
        has_taken_effect=mesh_is_unhealthy,
    ),
    Fault(
        id="U2",
        sentence="the validation webhooks still refer to the istiod of a removed revision",
        seen="configuration changes are rejected: failed calling webhook",
        source="istio.io, Canary upgrades, uninstall old control plane; istio/istio issues on istiod-default-validator",
        kills=("CONTROL-07",),
        also=(
            "CONTROL-03",
            "CONTROL-04",
            "CONTROL-06",
            "TRAFFIC-03",
            "TRAFFIC-04",
            "TRAFFIC-05",
            "TRAFFIC-06",
            "TRAFFIC-07",
            "TRAFFIC-08",
            "TRAFFIC-09",
        ),
        inject=_validator_of_removed_revision,
    ),
    Fault(
        id="U3",
        sentence="there is no validation webhook",
        seen="invalid configuration is accepted and ignored",
        source="enableIstioConfigCRDs or base chart removed; istioctl uninstall of another revision",
        kills=("CONTROL-07",),
        inject=_no_validator,
    ),
)
