"""Faults that nobody feels until something dies: what drills are for. The mesh is healthy while they are in it."""

from __future__ import annotations

from typing import Final

from meshproof.claims.claim import ACROSS_NETWORKS, TWO_PRIMARIES
from meshproof.clients.kubernetes.client import Json
from meshproof.clients.kubernetes.manifests import core, metadata
from meshproof.core import names
from meshproof.faults.catalogue.common import config, edit_mesh_config, edit_reader_rights, revoke_tokens
from meshproof.faults.catalogue.injection import MUTATING, injectors
from meshproof.faults.catalogue.trust import break_key, set_ca
from meshproof.faults.editor import JournalledEditor
from meshproof.faults.fault import Fault
from meshproof.faults.undo import ISTIOD, WORKLOADS
from meshproof.mesh.handles import Cluster
from meshproof.pki import issue as pki
from meshproof.workloads import resilient_app as resilient
from meshproof.workloads.app import app_deployment_name

OUTAGE: Final = ("FAILOVER-01", "FAILOVER-02", "FAILOVER-03", "FAILOVER-04", "FAILOVER-12", "FAILOVER-13")
"""Claims that judge the same outages: to run one is to run all."""

NAME_LABEL: Final = "kubernetes.io/metadata.name"
"""Kubernetes puts it on every namespace."""
_ASKS: Final = """\
function envoy_on_request(handle)
  local headers, body = handle:httpCall(
    "outbound|15014||ISTIOD.istio-system.svc.cluster.local",
    {[":method"] = "GET", [":path"] = "/version", [":authority"] = "istiod"}, "", 1000)
  if headers[":status"] ~= "200" then
    handle:respond({[":status"] = "500"}, "who am I?")
  end
end
"""


def _filter_asks_istiod(editor: JournalledEditor) -> None:
    lua = {"@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"}
    lua["default_source_code"] = {"inline_string": _ASKS.replace("ISTIOD", editor.near.spec.istiod)}  # type: ignore[assignment]
    router = {"filter": {"name": "envoy.filters.network.http_connection_manager"}}
    patch = {
        "applyTo": "HTTP_FILTER",
        "match": {"context": "SIDECAR_INBOUND", "listener": {"filterChain": router}},
        "patch": {"operation": "INSERT_BEFORE", "value": {"name": "meshproof-asks", "typed_config": lua}},
    }
    # Until they are closed connections go by the filters that they were made with.
    editor.restart_when_healed(editor.near, WORKLOADS)
    labels = {"app": names.APP_SERVICE, "version": editor.near.spec.app_version}
    spec = {"workloadSelector": {"labels": labels}, "configPatches": [patch]}
    editor.add(editor.near, config("EnvoyFilter", "meshproof-asks-istiod", spec))


def _injection_fails_open(editor: JournalledEditor) -> None:
    def change(configuration: Json) -> None:
        for webhook in configuration["webhooks"]:
            webhook["failurePolicy"] = "Ignore"

    for name in injectors(editor.far):
        editor.edit(editor.far, MUTATING, name, None, change)


def _no_new_pod(editor: JournalledEditor, cluster: Cluster, namespace: str) -> None:
    """A quota refuses new pods only: those that run go on."""
    quota = core("ResourceQuota", metadata("meshproof-no-more-pods", namespace), spec={"hard": {"pods": "0"}})
    editor.add(cluster, quota)


def _no_new_gateway(editor: JournalledEditor) -> None:
    gateway = editor.far.spec.east_west
    editor.start_again_when_healed(editor.far, gateway.namespace, gateway.name)
    _no_new_pod(editor, editor.far, gateway.namespace)


def _no_second_istiod(editor: JournalledEditor) -> None:
    _no_new_pod(editor, editor.near, names.SYSTEM_NAMESPACE)


def _no_new_application(editor: JournalledEditor) -> None:
    editor.start_again_when_healed(editor.near, names.APP_NAMESPACE, app_deployment_name(editor.near.spec))
    _no_new_pod(editor, editor.near, names.APP_NAMESPACE)


def _key_of_another(editor: JournalledEditor) -> None:
    last = editor.mesh.primaries[-1]
    editor.restart_when_healed(last, ISTIOD)  # after some crashes the kubelet waits for minutes
    break_key(editor, last)


def _root_of_another(editor: JournalledEditor) -> None:
    last = editor.mesh.primaries[-1]
    editor.restart_when_healed(last, ISTIOD)
    for cluster in editor.mesh.controlled_by(last):
        editor.restart_when_healed(cluster, WORKLOADS)
    set_ca(editor, last, pki.plugin_ca(pki.make_root(), last.name))


def _careless_clients(editor: JournalledEditor) -> None:
    """The client's namespace is looked at before the service's, so that this rule takes the place of the other."""
    spec = {"host": resilient.FQDN, "trafficPolicy": {"loadBalancer": {"simple": "ROUND_ROBIN"}}}
    for primary in editor.mesh.primaries:
        editor.add(primary, config("DestinationRule", "meshproof-careless", spec, names.CLIENT_NAMESPACE))


def _no_retries(editor: JournalledEditor) -> None:
    """Of two VirtualServices for one host in the mesh the older one counts."""
    destination = {"host": resilient.FQDN, "port": {"number": names.APP_PORT}}
    route = {"route": [{"destination": destination}], "retries": {"attempts": 0}}
    spec = {"hosts": [resilient.FQDN], "http": [route]}
    for primary in editor.mesh.primaries:
        editor.add(primary, config("VirtualService", "meshproof-no-retries", spec))


def _leaves_a_namespace_out(editor: JournalledEditor) -> None:
    selector = {"key": NAME_LABEL, "operator": "NotIn", "values": [names.OUTSIDE_NAMESPACE]}
    edit_mesh_config(editor, editor.far_config, {"discoverySelectors": [{"matchExpressions": [selector]}]})


def _reader_may_not_begin(editor: JournalledEditor) -> None:
    """Rights are looked at when a watch begins, not while it goes on."""
    # With each refusal istiod waits longer before it tries again.
    editor.restart_when_healed(editor.near, ISTIOD)
    edit_reader_rights(editor, "endpointslices", lambda _: ["get"])


FAILOVER: Final = (
    Fault(
        id="D1",
        sentence="a filter of the application asks istiod for each request",
        seen="nothing, until that istiod is stopped: then every request to that cluster fails",
        source="external authorization and rate limits that run beside the control plane",
        kills=("FAILOVER-01", "FAILOVER-12"),
        also=("FAILOVER-04", "FAILOVER-13"),
        beside=OUTAGE,
        inject=_filter_asks_istiod,
    ),
    Fault(
        id="D2",
        sentence="the injection webhook of one cluster fails open",
        seen="nothing, until its istiod is away: then new pods start without a sidecar, outside every policy",
        source="failurePolicy Ignore, set so that nodes can be drained; istio.io, Sidecar injection problems",
        kills=("FAILOVER-03",),
        beside=OUTAGE,
        inject=_injection_fails_open,
    ),
    Fault(
        id="D3",
        sentence="a quota lets no new pod into istio-system: a killed gateway is not replaced",
        seen="nothing, until the pod of the east-west gateway dies: then no request crosses",
        source="Kubernetes, Resource Quotas; a full node or a registry that is away do the same",
        needs=(ACROSS_NETWORKS,),
        kills=("FAILOVER-07",),
        inject=_no_new_gateway,
    ),
    Fault(
        id="D4",
        sentence="a second replica of istiod never gets ready",
        seen="nothing: one replica serves, and the autoscaler's wish for two is refused",
        source="Kubernetes, Resource Quotas; anti-affinity on one node; istio/istio issues on istiod's autoscaler",
        kills=("FAILOVER-11",),
        inject=_no_second_istiod,
    ),
    Fault(
        id="D5",
        sentence="istiod cannot start again: the key in its cacerts belongs to another certificate",
        seen="nothing, until it is restarted: then it does not come back",
        source="as T5, felt at the worst moment",
        kills=("FAILOVER-04", "FAILOVER-13"),
        beside=OUTAGE,
        inject=_key_of_another,
    ),
    Fault(
        id="D6",
        sentence="istiod comes back with another root",
        seen="nothing, until it is restarted: then new pods and old ones do not trust each other",
        source="cacerts renewed by a job, with one root instead of both for a while; istio.io, Plug in CA Certificates",
        kills=("FAILOVER-04",),
        also=("FAILOVER-13",),
        beside=OUTAGE,
        inject=_root_of_another,
    ),
    Fault(
        id="D7",
        sentence="a rule in the clients' namespace takes the place of the one with outlier detection and time limits",
        seen="nothing, until a link is cut: then requests hang for as long as they may",
        source="istio.io, Destination Rule: a rule in the client's namespace is looked at first",
        kills=("FAILOVER-08",),
        inject=_careless_clients,
    ),
    Fault(
        id="D8",
        sentence="an older VirtualService without retries takes the place of the one with them",
        seen="nothing, until endpoints do not answer: then requests fail each time that an ejected one is tried again",
        source="istio.io, Traffic management best practices: one host, several VirtualServices",
        kills=("FAILOVER-05", "FAILOVER-08", "FAILOVER-14", "FAILOVER-16"),
        also=("FAILOVER-06",),
        inject=_no_retries,
    ),
    Fault(
        id="D9",
        sentence="the token in a remote secret is revoked, and the watches that are open go on",
        seen="nothing, until that API server restarts: then its changes are not followed any more",
        source="as S4, before anybody feels it",
        kills=("FAILOVER-09",),
        inject=revoke_tokens,
    ),
    Fault(
        id="D10",
        sentence="a quota lets no new pod of the application in",
        seen="nothing, until it is deployed again: then its cluster does not answer",
        source="Kubernetes, Resource Quotas",
        needs=(TWO_PRIMARIES,),
        kills=("FAILOVER-06",),
        beside=("FAILOVER-05",),
        inject=_no_new_application,
    ),
    Fault(
        id="D11",
        sentence="istiod cannot start again after a crash",
        seen="nothing, until it crashes: then it crashes again and again",
        source="as D5, without anybody who restarts it",
        kills=("FAILOVER-15",),
        inject=_key_of_another,
    ),
    Fault(
        id="D12",
        sentence="the istiod of one primary leaves a namespace out",
        seen="nothing, while its routes stay as they are: a new one does not reach that primary's proxies",
        source="istio.io, Discovery selectors: a namespace that no selector names is not read",
        needs=(TWO_PRIMARIES,),
        kills=("FAILOVER-02",),
        beside=OUTAGE,
        inject=_leaves_a_namespace_out,
    ),
    Fault(
        id="D13",
        sentence="the account in remote secrets may not read endpoints any more, and the watches that are open go on",
        seen="nothing, until the secret is made anew: then that cluster does not come back",
        source="as S5, before anybody feels it",
        kills=("FAILOVER-10",),
        inject=_reader_may_not_begin,
    ),
)
