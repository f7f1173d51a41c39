"""Configuration of the Envoy in a probe pod, which serves every port."""

from __future__ import annotations

from typing import Final

from meshproof.clients.kubernetes.client import Json
from meshproof.probes.answers import PROTOCOL_HEADER, VERSION_HEADER
from meshproof.workloads.app import ECHO_PATH, LARGEST_ECHO_BYTES
from meshproof.workloads.testbed.names import APP, FAIL_HEADER, LISTEN_GRPC, LISTEN_HTTP, LISTEN_OPEN, LISTEN_TCP

_EXTENSION: Final = "type.googleapis.com/envoy.extensions.filters"


def probe_envoy_config(cluster: str) -> Json:
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
        added_headers = {VERSION_HEADER: cluster, PROTOCOL_HEADER: "%PROTOCOL%"} | added
        return {
            "match": {"prefix": "/", "headers": headers},
            "direct_response": {"status": status, "body": {"inline_string": f"{cluster}\n"}},
            "response_headers_to_add": [
                {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
                for key, value in added_headers.items()
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
