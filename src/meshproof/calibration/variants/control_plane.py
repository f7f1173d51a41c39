"""Variants of the control plane's settings, and of how many replicas run."""

from __future__ import annotations

from typing import Final

from meshproof.calibration.variants.common import (
    SYSTEM,
    restart_proxies,
    set_mesh_configs,
    set_replicas,
    thing,
    with_east_west,
    with_ingress,
)
from meshproof.calibration.variants.variant import Variant
from meshproof.clients.kubernetes.client import Json
from meshproof.core import names
from meshproof.faults.editor import JournalledEditor

REPLICAS: Final = 2
NATIVE_SIDECARS: Final = "ENABLE_NATIVE_SIDECARS"
TRACES: Final = "observability"
ZIPKIN_PORT: Final = 9411


def _replicas(editor: JournalledEditor) -> None:
    for primary in editor.mesh.primaries:
        set_replicas(editor, primary, primary.spec.istiod, SYSTEM, REPLICAS)
    for cluster, gateway in with_ingress(editor.mesh.clusters):
        set_replicas(editor, cluster, gateway.name, gateway.namespace, REPLICAS)
    for cluster in with_east_west(editor, editor.mesh.clusters):
        set_replicas(editor, cluster, cluster.spec.east_west.name, cluster.spec.east_west.namespace, REPLICAS)


def _proxy_defaults(editor: JournalledEditor) -> None:
    metadata = {"ISTIO_META_DNS_CAPTURE": "true"}
    defaults = {"holdApplicationUntilProxyStarts": True, "proxyMetadata": metadata}
    set_mesh_configs(editor, {"defaultConfig": defaults, "h2UpgradePolicy": "UPGRADE"})
    restart_proxies(editor)


def _classic_sidecars(editor: JournalledEditor) -> None:
    def change(deployment: Json) -> None:
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        others = [variable for variable in container.get("env") or [] if variable["name"] != NATIVE_SIDECARS]
        container["env"] = [*others, {"name": NATIVE_SIDECARS, "value": "false"}]

    for primary in editor.mesh.primaries:
        editor.edit(primary, "Deployment", primary.spec.istiod, SYSTEM, change)


def _telemetry(editor: JournalledEditor) -> None:
    """Access logs of everything, and traces to a collector that is scaled to zero."""
    port = {"name": "http-zipkin", "port": ZIPKIN_PORT, "targetPort": ZIPKIN_PORT, "protocol": "TCP"}
    for cluster in editor.mesh.clusters:
        editor.add(cluster, thing("Namespace", TRACES))
        editor.add(cluster, thing("Service", "zipkin", TRACES, spec={"selector": {"app": "zipkin"}, "ports": [port]}))
    provider = {"name": "zipkin", "zipkin": {"service": names.fqdn("zipkin", TRACES), "port": ZIPKIN_PORT}}
    set_mesh_configs(
        editor,
        {
            "accessLogFile": "/dev/stdout",
            "accessLogEncoding": "JSON",
            "enableTracing": True,
            "extensionProviders": [provider],
        },
    )
    spec = {
        "accessLogging": [{"providers": [{"name": "envoy"}]}],
        "tracing": [{"providers": [{"name": "zipkin"}], "randomSamplingPercentage": 100}],
    }
    for primary in editor.mesh.primaries:
        for other in primary.kube.list("Telemetry", SYSTEM):  # only one in the root namespace counts, the oldest
            editor.remove(primary, "Telemetry", other["metadata"]["name"], SYSTEM)
        editor.add(primary, thing("Telemetry", "mesh-default", SYSTEM, spec=spec))


def _timeouts(editor: JournalledEditor) -> None:
    set_mesh_configs(
        editor,
        {
            "connectTimeout": "3s",
            "protocolDetectionTimeout": "5s",
            "defaultHttpRetryPolicy": {"attempts": 0},
            "pathNormalization": {"normalization": "DECODE_AND_MERGE_SLASHES"},
            "enablePrometheusMerge": False,
        },
    )


def _quiet_headers(editor: JournalledEditor) -> None:
    off = {"disabled": True}
    headers = {"server": off, "requestId": off, "attemptCount": off, "envoyDebugHeaders": off}
    set_mesh_configs(editor, {"defaultConfig": {"proxyHeaders": headers}})
    restart_proxies(editor)


CONTROL_PLANE: Final = (
    Variant(
        id="replicas",
        sentence="istiod and all gateways have two replicas",
        legal="istio.io, Deployment models; Kubernetes, Deployments",
        apply=_replicas,
    ),
    Variant(
        id="proxy-defaults",
        sentence="pods wait for their proxies, proxies answer DNS, and plain HTTP is upgraded to HTTP/2",
        legal="istio.io, Global Mesh Options: holdApplicationUntilProxyStarts, h2UpgradePolicy; DNS Proxying",
        apply=_proxy_defaults,
    ),
    Variant(
        id="classic-sidecars",
        sentence="sidecars are ordinary containers, not native sidecars",
        legal="istio.io, pilot-discovery: ENABLE_NATIVE_SIDECARS",
        apply=_classic_sidecars,
    ),
    Variant(
        id="telemetry",
        sentence="all requests are logged as JSON and traced, and the traces' collector is down",
        legal="istio.io, Telemetry; Global Mesh Options: accessLogFile, extensionProviders",
        apply=_telemetry,
    ),
    Variant(
        id="quiet-headers",
        sentence="proxies add no headers of their own: no server, request ID, attempt count or debug headers",
        legal="istio.io, Global Mesh Options: ProxyConfig.ProxyHeaders",
        apply=_quiet_headers,
    ),
    Variant(
        id="timeouts",
        sentence="proxies never retry, connect for 3 s at most, and normalise paths",
        legal="istio.io, Global Mesh Options: defaultHttpRetryPolicy, connectTimeout, pathNormalization",
        apply=_timeouts,
        still_kills=("P10",),
    ),
)
