"""The demonstration service, an Envoy with direct responses, and the client pods that call it."""

from __future__ import annotations

import json
from typing import Final

import yaml

from meshproof.clients.kubernetes.client import Json
from meshproof.clients.kubernetes.manifests import (
    INJECTED_NAMESPACES,
    core,
    deployment,
    metadata,
    pulls_with,
    service,
)
from meshproof.clients.kubernetes.pods import NOT_INJECTED, pod_spec
from meshproof.core.model import ClusterSpec, PullSecret
from meshproof.core.names import APP_ACCOUNT, APP_NAMESPACE, APP_PORT, APP_SERVICE, CLIENT_POD

APP_CONFIG = "envoy-dummy"
"""Name of the ConfigMap with the Envoy configuration."""
LISTEN_PORT = 8080
ECHO_PATH = "/echo"
LARGEST_ECHO_BYTES = 4 * 1024 * 1024


def app_deployment_name(cluster: ClusterSpec) -> str:
    return f"{APP_SERVICE}-{cluster.app_version}"


def app_manifests(cluster: ClusterSpec, image: str, pull_secret: PullSecret | None = None) -> tuple[Json, ...]:
    """The service in one cluster, in the version that the topology gives it.

    It responds to every path with `{"service": …, "version": …, "cluster": …}` and header `x-app-version`, and to POST
    requests to `/echo` with their own body (up to 4 MiB). The Service is the same in every cluster (namespace
    sameness).
    """
    return (
        core("ServiceAccount", metadata(APP_ACCOUNT, APP_NAMESPACE), **pulls_with(pull_secret)),
        core(
            "ConfigMap",
            metadata(APP_CONFIG, APP_NAMESPACE),
            data={"envoy.yaml": yaml.safe_dump(app_envoy_config(cluster), sort_keys=False)},
        ),
        app_service(APP_SERVICE),
        _app_deployment(cluster, image),
    )


def app_service(name: str) -> Json:
    """A Service of that name for the application's pods, the same in every cluster (namespace sameness)."""
    port = {"name": "http", "port": APP_PORT, "targetPort": LISTEN_PORT, "protocol": "TCP"}
    spec = {"selector": {"app": APP_SERVICE}, "ports": [port]}
    return service(name, APP_NAMESPACE, spec, labels={"app": APP_SERVICE})


def envoy_container(name: str, image: str, port: int) -> Json:
    """An Envoy with the configuration in volume `config`; ready when it responds on that port."""
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["envoy", "-c", "/etc/envoy/envoy.yaml", "--concurrency", "1", "--disable-hot-restart"],
        "readinessProbe": {"httpGet": {"path": "/", "port": port}, "periodSeconds": 1, "timeoutSeconds": 2},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/envoy", "readOnly": True}],
    }


def _app_deployment(cluster: ClusterSpec, image: str) -> Json:
    container = envoy_container(APP_SERVICE, image, LISTEN_PORT) | {
        "ports": [{"name": "http", "containerPort": LISTEN_PORT}],
    }
    labels = {"app": APP_SERVICE, "version": cluster.app_version}
    return deployment(
        app_deployment_name(cluster),
        APP_NAMESPACE,
        selector=labels,
        labels=labels,
        pod=pod_spec(
            [container],
            grace_s=2,
            serviceAccountName=APP_ACCOUNT,
            volumes=[{"name": "config", "configMap": {"name": APP_CONFIG}}],
        ),
    )


def app_envoy_config(cluster: ClusterSpec) -> Json:
    """Static configuration of that Envoy. The echo is in Lua: a direct response cannot contain the request body."""
    body = json.dumps({"service": APP_SERVICE, "version": cluster.app_version, "cluster": cluster.name})
    extension = "type.googleapis.com/envoy.extensions.filters"
    direct_response = {
        "match": {"prefix": "/"},
        "direct_response": {"status": 200, "body": {"inline_string": body}},
        "response_headers_to_add": [
            {"header": {"key": "x-app-version", "value": cluster.app_version}},
            {
                "header": {"key": "content-type", "value": "application/json"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            },
        ],
    }
    manager = {
        "@type": f"{extension}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": APP_SERVICE,
        "http_filters": [
            {
                "name": "echo",
                "typed_config": {
                    "@type": f"{extension}.http.lua.v3.Lua",
                    "default_source_code": {"inline_string": _echo(cluster.app_version)},
                },
            },
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{extension}.http.router.v3.Router"},
            },
        ],
        "route_config": {
            "name": APP_SERVICE,
            "virtual_hosts": [{"name": "any", "domains": ["*"], "routes": [direct_response]}],
        },
    }
    listener = {
        "name": "http",
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": LISTEN_PORT}},
        "per_connection_buffer_limit_bytes": LARGEST_ECHO_BYTES,
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    return {"static_resources": {"listeners": [listener]}}


def _echo(version: str) -> str:
    return f"""\
function envoy_on_request(request)
  if request:headers():get(":path") == "{ECHO_PATH}" then
    local body = request:body(true)
    request:respond(
      {{[":status"] = "200", ["x-app-version"] = "{version}", ["content-type"] = "application/octet-stream"}},
      body:getBytes(0, body:length()))
  end
end
"""


# As PID 1 it inherits orphans of probes and has to reap them: `sleep` alone would collect zombies.
_WAITS: Final = "trap 'exit 0' TERM; while :; do sleep 3600 & wait; done"


def client_container(image: str) -> Json:
    """A container that idles; probes run in it by exec."""
    return {
        "name": CLIENT_POD,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", _WAITS],
    }


def client_manifest(namespace: str, image: str) -> Json:
    """A Deployment of that container: in the mesh or outside, depending on its namespace."""
    labels = {"app": CLIENT_POD}
    pod = pod_spec([client_container(image)], grace_s=1)
    outside = {} if namespace in INJECTED_NAMESPACES else NOT_INJECTED
    return deployment(CLIENT_POD, namespace, selector=labels, labels=labels, pod=pod, pod_labels=outside)
