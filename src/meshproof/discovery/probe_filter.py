"""Filters out what our own probes leave in the configuration of proxies for a while."""

from __future__ import annotations

import json
from typing import Any

from meshproof.clients.istio.config_dump import ProxyConfig
from meshproof.core.names import mentions_probes


def is_of_probes(item: object) -> bool:
    """A virtual host, or a chain of filters for one server name."""
    if not isinstance(item, dict):
        return False
    match = item.get("filterChainMatch")
    servers = match.get("serverNames") or [] if isinstance(match, dict) else []
    return mentions_probes(str(item.get("name", ""))) or any(mentions_probes(str(server)) for server in servers)


def without_probes(held: ProxyConfig) -> dict[str, Any]:
    """The same without probes: whole parts that mention one, and their hosts and chains in shared parts.

    A listener belongs to probes if its routes do.
    """
    routes = {part.removeprefix("route ") for part, content in held.items() if part.startswith("route ")}
    of_probes = {name for name in routes if _is_of_probes_only(held[f"route {name}"])}
    kept = {part: content for part, content in held.items() if not mentions_probes(part)}
    return {
        part: _stripped(content)
        for part, content in kept.items()
        if not (part.startswith("route ") and part.removeprefix("route ") in of_probes)
        and not (part.startswith("listener ") and _leads_to_probes(content, of_probes))
    }


def _is_of_probes_only(route: Any) -> bool:
    """Whether every host is one of ours, except the catch-all host."""
    hosts = [host for host in route.get("virtualHosts") or [] if host.get("domains") != ["*"]]
    return bool(hosts) and all(map(is_of_probes, hosts))


def _leads_to_probes(listener: Any, routes: set[str]) -> bool:
    """Whether a listener forwards to a probe, or uses routes that belong to probes only."""
    text = json.dumps(_stripped(listener))
    return mentions_probes(text) or any(json.dumps({"routeConfigName": name})[1:-1] in text for name in routes)


def _stripped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _stripped(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_stripped(each) for each in value if not is_of_probes(each)]
    return value
