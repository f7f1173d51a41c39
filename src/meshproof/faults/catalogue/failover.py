"""Latent faults: the mesh seems healthy until a component fails. Drills detect them."""

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
"""Claims that judge the same outages: running one runs the drill for all."""

NAME_LABEL: Final = "kubernetes.io/metadata.name"
"""Kubernetes puts it on every namespace."""
_LUA_QUERY: Final = """\
function envoy_on_request(handle)
  local headers, body = handle:httpCall(
    "outbound|15014||ISTIOD.istio-system.svc.cluster.local",
    {[":method"] = "GET", [":path"] = "/version", [":authority"] = "istiod"}, "", 1000)
  if headers[":status"] ~= "200" then
    handle:respond({[":status"] = "500"}, "istiod is down")
  end
end
"""


def _filter_queries_istiod(editor: JournalledEditor) -> None:
    lua = {"@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"}
    lua["default_source_code"] = {"inline_string": _LUA_QUERY.replace("ISTIOD", editor.near.spec.istiod)}  # type: ignore[assignment]
    router = {"filter": {"name": "envoy.filters.network.http_connection_manager"}}
    patch = {
        "applyTo": "HTTP_FILTER",
        "match": {"context": "SIDECAR_INBOUND", "listener": {"filterChain": router}},
        "patch": {"operation": "INSERT_BEFORE", "value": {"name": "meshproof-queries", "typed_config": lua}},
    }
    # Open connections keep the filters with which they were created.
    editor.restart_when_healed(editor.near, WORKLOADS)
    labels = {"app": names.APP_SERVICE, "version": editor.near.spec.app_version}
    spec = {"workloadSelector": {"labels": labels}, "configPatches": [patch]}
    editor.add(editor.near, config("EnvoyFilter", "meshproof-queries-istiod", spec))


def _injection_fails_open(editor: JournalledEditor) -> None:
    def change(configuration: Json) -> None:
        for webhook in configuration["webhooks"]:
            webhook["failurePolicy"] = "Ignore"

    for name in injectors(editor.far):
        editor.edit(editor.far, MUTATING, name, None, change)


def _no_new_pod(editor: JournalledEditor, cluster: Cluster, namespace: str) -> None:
    """A quota rejects new pods only; running pods continue."""
    quota = core("ResourceQuota", metadata("meshproof-no-more-pods", namespace), spec={"hard": {"pods": "0"}})
    editor.add(cluster, quota)


def _no_new_gateway(editor: JournalledEditor) -> None:
    gateway = editor.far.spec.east_west
    editor.recreate_pods_when_healed(editor.far, gateway.namespace, gateway.name)
    _no_new_pod(editor, editor.far, gateway.namespace)


def _no_second_istiod(editor: JournalledEditor) -> None:
    _no_new_pod(editor, editor.near, names.SYSTEM_NAMESPACE)


def _no_new_application(editor: JournalledEditor) -> None:
    editor.recreate_pods_when_healed(editor.near, names.APP_NAMESPACE, app_deployment_name(editor.near.spec))
    _no_new_pod(editor, editor.near, names.APP_NAMESPACE)


def _key_of_another(editor: JournalledEditor) -> None:
    last = editor.mesh.primaries[-1]
    editor.restart_when_healed(last, ISTIOD)  # after some crashes the kubelet's back-off is minutes long
    break_key(editor, last)


def _root_of_another(editor: JournalledEditor) -> None:
    last = editor.mesh.primaries[-1]
    editor.restart_when_healed(last, ISTIOD)
    for cluster in editor.mesh.controlled_by(last):
        editor.restart_when_healed(cluster, WORKLOADS)
    set_ca(editor, last, pki.plugin_ca(pki.make_root(), last.name))


def _override_in_client_namespace(editor: JournalledEditor) -> None:
    """DestinationRules in the client's namespace take precedence over those in the service's."""
    spec = {"host": resilient.FQDN, "trafficPolicy": {"loadBalancer": {"simple": "ROUND_ROBIN"}}}
    for primary in editor.mesh.primaries:
        editor.add(primary, config("DestinationRule", "meshproof-override", spec, names.CLIENT_NAMESPACE))


def _no_retries(editor: JournalledEditor) -> None:
    """Of two VirtualServices for one host in the mesh, the older one applies."""
    destination = {"host": resilient.FQDN, "port": {"number": names.APP_PORT}}
    route = {"route": [{"destination": destination}], "retries": {"attempts": 0}}
    spec = {"hosts": [resilient.FQDN], "http": [route]}
    for primary in editor.mesh.primaries:
        editor.add(primary, config("VirtualService", "meshproof-no-retries", spec))


def _namespace_not_selected(editor: JournalledEditor) -> None:
    selector = {"key": NAME_LABEL, "operator": "NotIn", "values": [names.OUTSIDE_NAMESPACE]}
    edit_mesh_config(editor, editor.far_config, {"discoverySelectors": [{"matchExpressions": [selector]}]})


def _reader_may_not_begin(editor: JournalledEditor) -> None:
    """The API server checks rights when a watch begins, not while it is open."""
    # istiod's retries back off.
    editor.restart_when_healed(editor.near, ISTIOD)
    edit_reader_rights(editor, "endpointslices", lambda _: ["get"])


FAILOVER: Final = (
    Fault(
        id="D1",
        sentence="a filter of the application queries istiod for each request",
        seen="nothing until that istiod stops; then every request to that cluster fails",
        source="external authorization and rate limit services that depend on the control plane",
        kills=("FAILOVER-01", "FAILOVER-12"),
        also=("FAILOVER-04", "FAILOVER-13"),
        shares_drill_with=OUTAGE,
        inject=_filter_queries_istiod,
    ),
    Fault(
        id="D2",
        sentence="the injection webhook of one cluster fails open",
        seen="nothing until its istiod is down; then new pods start without a sidecar, outside every policy",
        source="failurePolicy Ignore, set so that nodes can be drained; istio.io, Sidecar injection problems",
        kills=("FAILOVER-03",),
        shares_drill_with=OUTAGE,
        inject=_injection_fails_open,
    ),
    Fault(
        id="D3",
        sentence="a quota rejects new pods in istio-system, so a killed gateway is not replaced",
        seen="nothing until the east-west gateway's pod dies; then no request crosses clusters",
        source="Kubernetes, Resource Quotas; a full node or an unreachable registry have the same effect",
        needs=(ACROSS_NETWORKS,),
        kills=("FAILOVER-07",),
        inject=_no_new_gateway,
    ),
    Fault(
        id="D4",
        sentence="a quota prevents a second replica of istiod",
        seen="nothing: one replica serves, and scaling to two fails",
        source="Kubernetes, Resource Quotas; anti-affinity on one node; istio/istio issues on istiod's autoscaler",
        kills=("FAILOVER-11",),
        inject=_no_second_istiod,
    ),
    Fault(
        id="D5",
        sentence="istiod cannot restart: the key in its cacerts belongs to another certificate",
        seen="nothing until istiod restarts; then it does not start",
        source="same cause as T5",
        kills=("FAILOVER-04", "FAILOVER-13"),
        shares_drill_with=OUTAGE,
        inject=_key_of_another,
    ),
    Fault(
        id="D6",
        sentence="istiod uses another root certificate after its next restart",
        seen="nothing until istiod restarts; then new and old pods do not trust each other",
        source="cacerts renewed with only the new root during the transition; istio.io, Plug in CA Certificates",
        kills=("FAILOVER-04",),
        also=("FAILOVER-13",),
        shares_drill_with=OUTAGE,
        inject=_root_of_another,
    ),
    Fault(
        id="D7",
        sentence="a DestinationRule in the clients' namespace overrides the one with outlier detection and timeouts",
        seen="nothing until a link fails; then requests hang until their own timeout",
        source="istio.io, Destination Rule: a rule in the client's namespace takes precedence",
        kills=("FAILOVER-08",),
        inject=_override_in_client_namespace,
    ),
    Fault(
        id="D8",
        sentence="an older VirtualService without retries overrides the one with retries",
        seen="nothing until endpoints fail; then a request fails whenever an ejected endpoint is tried again",
        source="istio.io, Traffic management best practices: one host, several VirtualServices",
        kills=("FAILOVER-05", "FAILOVER-08", "FAILOVER-14", "FAILOVER-16"),
        also=("FAILOVER-06",),
        inject=_no_retries,
    ),
    Fault(
        id="D9",
        sentence="the token in a remote secret is revoked, while open watches continue",
        seen="nothing until that API server restarts; then its changes are no longer followed",
        source="same cause as S4, before it has symptoms",
        kills=("FAILOVER-09",),
        inject=revoke_tokens,
    ),
    Fault(
        id="D10",
        sentence="a quota rejects new pods of the application",
        seen="nothing until it is deployed again; then no endpoint in its cluster responds",
        source="Kubernetes, Resource Quotas",
        needs=(TWO_PRIMARIES,),
        kills=("FAILOVER-06",),
        shares_drill_with=("FAILOVER-05",),
        inject=_no_new_application,
    ),
    Fault(
        id="D11",
        sentence="istiod cannot restart after a crash, since the key in its cacerts belongs to another certificate",
        seen="nothing until it crashes; then it is in a crash loop",
        source="same cause as D5",
        kills=("FAILOVER-15",),
        inject=_key_of_another,
    ),
    Fault(
        id="D12",
        sentence="the discoverySelectors of one primary do not select a namespace",
        seen="nothing while its routes are unchanged; new routes do not reach that primary's proxies",
        source="istio.io, Discovery selectors: namespaces without a matching selector are ignored",
        needs=(TWO_PRIMARIES,),
        kills=("FAILOVER-02",),
        shares_drill_with=OUTAGE,
        inject=_namespace_not_selected,
    ),
    Fault(
        id="D13",
        sentence="the account in remote secrets may no longer watch endpoints, while open watches continue",
        seen="nothing until the secret is renewed; then that cluster is no longer discovered",
        source="same cause as S5, before it has symptoms",
        kills=("FAILOVER-10",),
        inject=_reader_may_not_begin,
    ),
)
