"""A stage of our own for claims about routes, policies and protocols: one probe pod per cluster in a new namespace.

Nothing of it touches anybody else: its services, hosts and policies select its own pods only, and all goes with its
namespace. One pod serves everything, in every cluster the same:

- port 80 `http` and 81 `grpc` (HTTP/2), and 90 `tcp`, which the mesh must not look into;
- an answer tells the cluster (`x-app-version`) and the protocol in which the request came (`x-meshproof-protocol`);
- POST to `/echo` is answered with the body;
- header `x-meshproof-fail: <cluster>` makes the probe of that cluster answer 500, and no other.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import yaml

from meshproof import names
from meshproof.calls import PROTOCOL_HEADER
from meshproof.clients.kube import Json
from meshproof.errors import Broken, ClaimFailed
from meshproof.fresh import namespace_for_probes, ready_pod
from meshproof.install.app import ECHO_PATH, LARGEST_ECHO_BYTES
from meshproof.install.manifests import core, metadata
from meshproof.istio_config import PROBE_DOMAIN, in_config_clusters, istio
from meshproof.mesh import Cluster, Mesh
from meshproof.parallel import together
from meshproof.probes.answer import VERSION_HEADER

PREFIX: Final = "meshproof-stage-"
APP: Final = "probe"
FAIL_HEADER: Final = "x-meshproof-fail"
CLUSTER_LABEL: Final = "meshproof-cluster"

PORT_HTTP: Final = 80
PORT_GRPC: Final = 81
PORT_TCP: Final = 90
LISTEN_HTTP: Final = 8080
LISTEN_GRPC: Final = 8082
"""Of its own: where two services lead to one port of a pod, its sidecar takes the protocol of one of them for both."""
LISTEN_TCP: Final = 8090
LISTEN_OPEN: Final = 8081
"""A port of the pod that takes plain text, as the positive control of those that must not."""

ALL: Final = "probe-all"
WEIGHTED: Final = "probe-weighted"
FAILOVER: Final = "probe-failover"
SHARED: Final = (ALL, WEIGHTED, FAILOVER)
"""Services over the probes of all clusters; beside them each cluster's probe has a service of its own."""

GUARDED: Final = "/guarded"
FIRST_WEIGHT: Final = 80


def service_of(cluster: Cluster) -> str:
    """The service that has one endpoint, the probe of that cluster."""
    return f"{APP}-{cluster.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The probes while they are there. `addresses` has the pod address by cluster name."""

    mesh: Mesh
    namespace: str
    addresses: dict[str, str]

    def url(self, service: str, path: str = "/", *, port: int = PORT_HTTP) -> str:
        """How a mesh client calls a service of the stage."""
        return f"http://{service}.{self.namespace}.svc.cluster.local:{port}{path}"

    def host(self, service: str) -> str:
        """The host name under which the ingress gateways know a service of the stage."""
        return f"{service}.{self.namespace}.{PROBE_DOMAIN}"


@contextmanager
def stage(mesh: Mesh) -> Iterator[Stage]:
    """Probes in all clusters, ready, and their configuration applied; everything goes with the namespace.

    Raises `Broken` if a probe cannot be made: then nothing is known about what it was to prove.
    """
    namespace = f"{PREFIX}{uuid.uuid4().hex[:8]}"
    try:
        together(lambda cluster: cluster.kube.create(namespace_for_probes(cluster, namespace)), mesh.clusters)
        together(lambda item: item[0].kube.apply(item[1]), _objects(mesh, namespace))
        together(lambda item: item[0].kube.apply(item[1]), in_config_clusters(mesh, configuration(mesh, namespace)))
        pods = together(lambda cluster: _probe(mesh, cluster, namespace), mesh.clusters)
        yield Stage(mesh=mesh, namespace=namespace, addresses={pod[0]: pod[1] for pod in pods})
    finally:
        together(lambda cluster: cluster.kube.delete("Namespace", namespace), mesh.clusters)


def _objects(mesh: Mesh, namespace: str) -> list[tuple[Cluster, Json]]:
    services = [_service(name, namespace, {"app": APP}) for name in SHARED]
    services += [_service(service_of(c), namespace, {"app": APP, CLUSTER_LABEL: c.name}) for c in mesh.clusters]
    return [
        *((cluster, service) for cluster in mesh.clusters for service in services),
        *((cluster, _config_map(cluster, namespace)) for cluster in mesh.clusters),
    ]


def _service(name: str, namespace: str, selector: dict[str, str]) -> Json:
    ports = [
        {"name": "http", "port": PORT_HTTP, "targetPort": LISTEN_HTTP},
        {"name": "grpc", "port": PORT_GRPC, "targetPort": LISTEN_GRPC},
        {"name": "tcp", "port": PORT_TCP, "targetPort": LISTEN_TCP},
    ]
    return core("Service", metadata(name, namespace), spec={"selector": selector, "ports": ports})


def _probe(mesh: Mesh, cluster: Cluster, namespace: str) -> tuple[str, str]:
    try:
        pod = ready_pod(cluster, namespace, _pod(cluster, namespace, mesh.toolbox.images["app"]))
    except ClaimFailed as problem:
        raise Broken("the probe services of these claims", str(problem), "see CONTROL-02, which proves this") from None
    if pod.proxy_env is None:
        raise Broken(f"the probe on {cluster}", "it was started without a sidecar", "see CONTROL-02")
    return cluster.name, pod.address


def _pod(cluster: Cluster, namespace: str, image: str) -> Json:
    container = {
        "name": APP,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["envoy", "-c", "/etc/envoy/envoy.yaml", "--concurrency", "1", "--disable-hot-restart"],
        "readinessProbe": {"httpGet": {"path": "/", "port": LISTEN_HTTP}, "periodSeconds": 1, "timeoutSeconds": 2},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/envoy", "readOnly": True}],
    }
    meta = metadata(APP, namespace, labels={"app": APP, CLUSTER_LABEL: cluster.name})
    spec = {
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": APP}}],
    }
    return core("Pod", meta, spec=spec)


def _config_map(cluster: Cluster, namespace: str) -> Json:
    text = yaml.safe_dump(envoy_config(cluster.name), sort_keys=False)
    return core("ConfigMap", metadata(APP, namespace), data={"envoy.yaml": text})


# -- the probe's Envoy ------------------------------------------------------------------------------------------------

_EXTENSION: Final = "type.googleapis.com/envoy.extensions.filters"


def envoy_config(cluster: str) -> Json:
    """Static configuration: the same service on every port; Envoy takes HTTP/1.1 and HTTP/2 on each."""
    listeners = [_listener(port, cluster) for port in (LISTEN_HTTP, LISTEN_GRPC, LISTEN_TCP, LISTEN_OPEN)]
    return {"static_resources": {"listeners": listeners}}


def _listener(port: int, cluster: str) -> Json:
    manager = {
        "@type": f"{_EXTENSION}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": APP,
        "http_filters": [
            {
                "name": "echo",
                "typed_config": {
                    "@type": f"{_EXTENSION}.http.lua.v3.Lua",
                    "default_source_code": {"inline_string": _echo(cluster)},
                },
            },
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_EXTENSION}.http.router.v3.Router"},
            },
        ],
        "route_config": {
            "name": APP,
            "virtual_hosts": [{"name": "any", "domains": ["*"], "routes": _routes(cluster)}],
        },
    }
    return {
        "name": f"port-{port}",
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": port}},
        "per_connection_buffer_limit_bytes": LARGEST_ECHO_BYTES,
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


def _routes(cluster: str) -> list[Json]:
    def exact(name: str, value: str) -> list[Json]:
        return [{"name": name, "string_match": {"exact": value}}]

    def route(status: int, added: dict[str, str], headers: list[Json]) -> Json:
        told = {VERSION_HEADER: cluster, PROTOCOL_HEADER: "%PROTOCOL%"} | added
        return {
            "match": {"prefix": "/", "headers": headers},
            "direct_response": {"status": status, "body": {"inline_string": f"{cluster}\n"}},
            "response_headers_to_add": [
                {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
                for key, value in told.items()
            ],
        }

    return [
        route(500, {}, exact(FAIL_HEADER, cluster)),
        route(200, {"content-type": "application/grpc", "grpc-status": "0"}, exact("content-type", "application/grpc")),
        route(200, {}, []),
    ]


def _echo(cluster: str) -> str:
    return f"""\
function envoy_on_request(request)
  local path = request:headers():get(":path")
  if path == "{ECHO_PATH}" then
    local body = request:body(true)
    request:respond(
      {{[":status"] = "200", ["{VERSION_HEADER}"] = "{cluster}", ["content-type"] = "application/octet-stream"}},
      body:getBytes(0, body:length()))
  end
end
"""


# -- Istio's configuration for it -------------------------------------------------------------------------------------

EJECTED_AFTER: Final = 3
EJECTION_LAG: Final = 5
KNOWN_PATHS: Final = ("/known", ECHO_PATH)
CLIENT_ACCOUNT: Final = "default"


def configuration(mesh: Mesh, namespace: str) -> tuple[Json, ...]:
    """Everything that the claims of the stage need, the same in every config cluster."""
    return (
        *_weights(mesh, namespace),
        _failover(namespace),
        _mutual_tls(namespace),
        *_guards(mesh, namespace),
        *_ingress(mesh, namespace),
    )


def _weights(mesh: Mesh, namespace: str) -> tuple[Json, ...]:
    host = f"{WEIGHTED}.{namespace}.svc.cluster.local"
    subsets = [{"name": c.name, "labels": {CLUSTER_LABEL: c.name}} for c in mesh.clusters]
    routes = [
        {"destination": {"host": host, "subset": name, "port": {"number": PORT_HTTP}}, "weight": weight}
        for name, weight in weights(mesh).items()
    ]
    hosts = [host, f"{WEIGHTED}.{namespace}.{PROBE_DOMAIN}"]
    gateways = ["mesh", APP]
    return (
        istio("DestinationRule", WEIGHTED, namespace, {"host": host, "subsets": subsets}),
        istio(
            "VirtualService", WEIGHTED, namespace, {"hosts": hosts, "gateways": gateways, "http": [{"route": routes}]}
        ),
    )


def weights(mesh: Mesh) -> dict[str, int]:
    """80 for the first cluster, the rest in equal parts; Istio wants integers that sum to 100."""
    first, *others = (str(cluster) for cluster in mesh.clusters)
    share, rest = divmod(100 - FIRST_WEIGHT, len(others)) if others else (0, 0)
    return {first: FIRST_WEIGHT} | {name: share + (index < rest) for index, name in enumerate(others)}


def _failover(namespace: str) -> Json:
    """Own cluster first. Retries are off as far as 500 goes: Istio's defaults repeat nothing that was answered so."""
    policy = {
        "outlierDetection": {
            "consecutive5xxErrors": EJECTED_AFTER,
            "interval": "0.5s",
            "baseEjectionTime": "2s",
            "maxEjectionPercent": 100,
        },
        "loadBalancer": {
            "simple": "ROUND_ROBIN",
            "localityLbSetting": {"enabled": True, "failoverPriority": ["topology.istio.io/cluster"]},
        },
    }
    host = f"{FAILOVER}.{namespace}.svc.cluster.local"
    return istio("DestinationRule", FAILOVER, namespace, {"host": host, "trafficPolicy": policy})


def _mutual_tls(namespace: str) -> Json:
    spec = {
        "selector": {"matchLabels": {"app": APP}},
        "mtls": {"mode": "STRICT"},
        "portLevelMtls": {str(LISTEN_OPEN): {"mode": "PERMISSIVE"}},
    }
    return istio("PeerAuthentication", APP, namespace, spec)


def _guards(mesh: Mesh, namespace: str) -> tuple[Json, ...]:
    """Who may ask for which path below `/guarded`; every other path and port is free for all."""
    caller = f"{mesh.topology.trust_domain}/ns/{names.CLIENT_NAMESPACE}/sa/{CLIENT_ACCOUNT}"
    nobody = f"{mesh.topology.trust_domain}/ns/{namespace}/sa/nobody"
    selector = {"matchLabels": {"app": APP}}

    def rule(principal: str, *words: str) -> Json:
        return {
            "from": [{"source": {"principals": [principal]}}],
            "to": [{"operation": {"ports": [str(LISTEN_HTTP)], "paths": [f"{GUARDED}/{word}" for word in words]}}],
        }

    # Two rules: on a TCP port an ALLOW rule that speaks of paths anywhere is dropped as a whole.
    paths = {"to": [{"operation": {"ports": [str(LISTEN_HTTP)], "notPaths": [f"{GUARDED}/*"]}}]}
    ports = {"to": [{"operation": {"ports": [str(LISTEN_GRPC), str(LISTEN_TCP), str(LISTEN_OPEN)]}}]}
    allowed = [rule(caller, "allowed", "denied", "spared"), rule(nobody, "others"), paths, ports]
    denied = [rule(caller, "denied"), rule(nobody, "spared")]
    return (
        istio("AuthorizationPolicy", "allow", namespace, {"selector": selector, "action": "ALLOW", "rules": allowed}),
        istio("AuthorizationPolicy", "deny", namespace, {"selector": selector, "action": "DENY", "rules": denied}),
    )


def _ingress(mesh: Mesh, namespace: str) -> tuple[Json, ...]:
    """Each cluster's probe under a host name of its own at every ingress gateway, for the known paths only."""
    gateway = {
        "selector": {"istio": names.INGRESS.removeprefix("istio-")},
        "servers": [
            {
                "port": {"number": 80, "name": "http", "protocol": "HTTP"},
                "hosts": [f"*.{namespace}.{PROBE_DOMAIN}"],
            }
        ],
    }
    routes = []
    for cluster in mesh.clusters:
        destination = {
            "host": f"{service_of(cluster)}.{namespace}.svc.cluster.local",
            "port": {"number": PORT_HTTP},
        }
        spec = {
            "hosts": [f"{service_of(cluster)}.{namespace}.{PROBE_DOMAIN}"],
            "gateways": [APP],
            "http": [
                {
                    "match": [{"uri": {"exact": path}} for path in KNOWN_PATHS],
                    "route": [{"destination": destination}],
                }
            ],
        }
        routes.append(istio("VirtualService", service_of(cluster), namespace, spec))
    return (istio("Gateway", APP, namespace, gateway), *routes)
