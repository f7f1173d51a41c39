"""Faults of configuration: valid objects that break traffic across clusters."""

from __future__ import annotations

from typing import Final

from meshproof.claims.claim import ACROSS_NETWORKS, REMOTES, TWO_PRIMARIES
from meshproof.clients.kubernetes.client import Json
from meshproof.core import names
from meshproof.faults.catalogue.common import (
    ACROSS,
    HAS_INGRESS,
    IDENTITY_ACROSS,
    NEW_PODS,
    SHARED_NETWORK_ONLY,
    TRAFFIC_ACROSS,
    config,
)
from meshproof.faults.editor import JournalledEditor
from meshproof.faults.fault import Fault, mesh_is_unhealthy
from meshproof.faults.undo import WORKLOADS

ROUTE: Final[Json] = {"destination": {"host": names.APP_FQDN, "port": {"number": names.APP_PORT}}}


def _routed(route: Json) -> Json:
    """A VirtualService for the application with one HTTP route."""
    return {"hosts": [names.APP_FQDN], "http": [route]}


WITH_LIMIT: Final = _routed({"timeout": "3s", "route": [ROUTE]})


def _mtls_off(editor: JournalledEditor) -> None:
    spec = {"selector": {"matchLabels": {"app": names.APP_SERVICE}}, "mtls": {"mode": "DISABLE"}}
    for primary in editor.mesh.primaries:
        editor.add(primary, config("PeerAuthentication", "meshproof-plain", spec))


def _deny_all(editor: JournalledEditor) -> None:
    # Open connections keep the policy with which they were created, in every cluster whose proxies got it.
    for cluster in editor.mesh.controlled_by(editor.far_config):
        editor.restart_when_healed(cluster, WORKLOADS)
    editor.add(editor.far_config, config("AuthorizationPolicy", "meshproof-nobody", {}))


def _plain_to_app(editor: JournalledEditor) -> None:
    spec = {"host": names.APP_FQDN, "trafficPolicy": {"tls": {"mode": "DISABLE"}}}
    editor.add(editor.near, config("DestinationRule", "meshproof-plain", spec))


def _aborts(editor: JournalledEditor) -> None:
    abort = {"abort": {"percentage": {"value": 20}, "httpStatus": 503}}
    spec = _routed({"fault": abort, "route": [ROUTE]})
    editor.add(editor.near, config("VirtualService", "meshproof-aborts", spec))


def _uneven(editor: JournalledEditor) -> None:
    first, second = (cluster.spec.app_version for cluster in (editor.near, editor.far))
    subsets = [{"name": v, "labels": {"version": v}} for v in (first, second)]
    editor.add(editor.near, config("DestinationRule", "meshproof-uneven", {"host": names.APP_FQDN, "subsets": subsets}))
    routes = [
        {"destination": {**ROUTE["destination"], "subset": version}, "weight": weight}
        for version, weight in ((first, 90), (second, 10))
    ]
    editor.add(editor.near, config("VirtualService", "meshproof-uneven", _routed({"route": routes})))


def _local_only(editor: JournalledEditor) -> None:
    settings = {"localityLbSetting": {"enabled": True, "failoverPriority": ["topology.istio.io/cluster"]}}
    spec = {"host": names.APP_FQDN, "trafficPolicy": {"loadBalancer": settings}}
    for primary in editor.mesh.primaries:
        editor.add(primary, config("DestinationRule", "meshproof-local-only", spec))


def _one_sided(editor: JournalledEditor) -> None:
    editor.add(editor.near, config("VirtualService", "meshproof-one-sided", WITH_LIMIT))


def _in_the_remote(editor: JournalledEditor) -> None:
    editor.add(editor.far, config("VirtualService", "meshproof-in-the-remote", WITH_LIMIT))


def _no_ingress_route(editor: JournalledEditor) -> None:
    editor.remove(editor.near, "VirtualService", names.APP_SERVICE, names.APP_NAMESPACE)


def _every_host(editor: JournalledEditor) -> None:
    def gateway(found: Json) -> None:
        found["spec"]["servers"][0]["hosts"] = ["*"]

    def route(found: Json) -> None:
        found["spec"]["hosts"] = ["*"]

    for primary in editor.mesh.primaries:
        editor.edit(primary, "Gateway", f"{names.APP_SERVICE}-gateway", names.APP_NAMESPACE, gateway)
        editor.edit(primary, "VirtualService", names.APP_SERVICE, names.APP_NAMESPACE, route)


def _rejected(editor: JournalledEditor) -> None:
    """A load balancing policy that is invalid for clusters of this type: istiod accepts it, every proxy rejects it."""
    patch = {
        "applyTo": "CLUSTER",
        "match": {"context": "SIDECAR_OUTBOUND", "cluster": {"service": names.APP_FQDN}},
        "patch": {"operation": "MERGE", "value": {"lb_policy": "CLUSTER_PROVIDED"}},
    }
    spec = {"configPatches": [patch]}
    editor.add(editor.near, config("EnvoyFilter", "meshproof-rejected", spec, names.SYSTEM_NAMESPACE))


POLICY: Final = (
    Fault(
        id="P1",
        sentence="mutual TLS is disabled for a service with clients on other networks",
        seen="only local endpoints respond: without mutual TLS no endpoint of another network is usable",
        source="istio/istio, pilot/pkg/xds/endpoints/ep_filters.go; istio.io, PeerAuthentication",
        needs=(ACROSS_NETWORKS,),
        kills=("DISCOVERY-02", "TRAFFIC-02"),
        also=("TRAFFIC-10", "GATEWAYS-02", "GATEWAYS-03", "TRUST-05", "CONTROL-05", *ACROSS),
        inject=_mtls_off,
        has_taken_effect=mesh_is_unhealthy,
    ),
    Fault(
        id="P1B",
        sentence="mutual TLS is disabled for a service whose clients are all on its network",
        seen="nothing: requests succeed, in plain text",
        source="istio.io, PeerAuthentication; a workaround for a probe or a scraper that was never removed",
        needs=(SHARED_NETWORK_ONLY,),
        kills=("TRAFFIC-10",),
        also=("TRUST-05", "TRUST-06"),
        inject=_mtls_off,
    ),
    Fault(
        id="P2",
        sentence="an AuthorizationPolicy without rules denies all requests in one cluster",
        seen="requests to that cluster fail: 403 RBAC: access denied",
        source="istio.io, AuthorizationPolicy: an empty spec is allow-nothing",
        kills=("TRAFFIC-01", "TRAFFIC-02"),
        also=(
            *TRAFFIC_ACROSS,
            *IDENTITY_ACROSS,
            "GATEWAYS-08",
            "GATEWAYS-10",
            "CONTROL-05",
            "TRUST-05",
            "TRAFFIC-08",
            "CONTROL-03",
        ),
        inject=_deny_all,
        has_taken_effect=mesh_is_unhealthy,
    ),
    Fault(
        id="P7",
        sentence="a VirtualService exists in one primary only",
        seen="its rules apply only to clients of one cluster",
        source="istio.io, Deployment models: each primary reads its own configuration; GitOps per cluster",
        needs=(TWO_PRIMARIES,),
        kills=("CONTROL-05",),
        also=("TRAFFIC-03",),
        inject=_one_sided,
    ),
    Fault(
        id="P8",
        sentence="Istio configuration was applied in a remote",
        seen="nothing: it is ignored",
        source="istio.io, Deployment models: configuration is read in the config cluster",
        needs=(REMOTES,),
        kills=("CONTROL-04",),
        inject=_in_the_remote,
    ),
    Fault(
        id="P9",
        sentence="a DestinationRule disables TLS for requests to the service",
        seen="clients on other networks get responses from local endpoints only",
        source="istio.io, Common problems, 503 errors after setting destination rule",
        kills=("TRAFFIC-10",),
        also=(*ACROSS, "GATEWAYS-02", "GATEWAYS-03", "DISCOVERY-02", "CONTROL-05"),
        inject=_plain_to_app,
    ),
    Fault(
        id="P10",
        sentence="an old VirtualService still injects faults into a fifth of the requests",
        seen="one in five requests fails with 503",
        source="istio.io, Fault injection; left over from a test",
        note="without `gateways` it applies to sidecars only, not to ingress gateways",
        kills=("TRAFFIC-02",),
        also=(*TRAFFIC_ACROSS, *IDENTITY_ACROSS, "GATEWAYS-08", "GATEWAYS-10", "CONTROL-05", "CONTROL-03"),
        inject=_aborts,
    ),
    Fault(
        id="P11",
        sentence="a canary route sends nine of ten requests to one version",
        seen="one cluster gets almost all requests",
        source="istio.io, Traffic shifting; an unfinished rollout",
        kills=("TRAFFIC-02",),
        also=("TRAFFIC-01", "TRAFFIC-03", "TRAFFIC-04", "GATEWAYS-08", "GATEWAYS-10", "CONTROL-05", "CONTROL-03"),
        inject=_uneven,
    ),
    Fault(
        id="P12",
        sentence="the VirtualService of the ingress host is missing in one primary",
        seen="404 through one ingress gateway",
        source="configuration applied in one cluster only",
        needs=(HAS_INGRESS,),
        kills=("TRAFFIC-01",),
        also=("TRAFFIC-08", "CONTROL-05"),
        inject=_no_ingress_route,
    ),
    Fault(
        id="P13",
        sentence="the application's route at the ingress gateways accepts every host",
        seen="the application responds under names that nobody gave it",
        source="istio.io, Virtual Service: the host '*' matches what no other does",
        needs=(HAS_INGRESS,),
        kills=("TRAFFIC-08",),
        inject=_every_host,
    ),
    Fault(
        id="F1",
        sentence="locality failover is enabled without outlier detection",
        seen="no failover as long as local endpoints are listed as healthy",
        source="istio.io, Locality failover: outlierDetection is required for it to function",
        kills=("TRAFFIC-04",),
        also=("TRAFFIC-01", "TRAFFIC-02", "TRAFFIC-03", "GATEWAYS-08", "GATEWAYS-10", "CONTROL-05"),
        inject=_local_only,
    ),
    Fault(
        id="X1",
        sentence="an EnvoyFilter creates configuration that every proxy rejects",
        seen="nothing until the next change, which does not reach proxies; new pods do not become ready",
        source="istio/istio issues on NACK after an upgrade with EnvoyFilters; xDS protocol, NACK",
        kills=("DISCOVERY-05",),
        also=("CONTROL-03", "CONTROL-05", "DISCOVERY-03", *NEW_PODS),
        note="istiod clears a rejection with the next acknowledged push of that type",
        inject=_rejected,
        has_taken_effect=mesh_is_unhealthy,
    ),
)
