"""What probes of ours leave in the configuration of proxies for a while: no part of a mesh, since it comes and goes."""

from __future__ import annotations

import json
from typing import Any

from meshproof.clients.istio.config_dump import ProxyConfig
from meshproof.core import names


def is_ours(text: str) -> bool:
    """Whether something is there for a probe of ours: for a Service in a namespace of ours, or a canary."""
    return names.mentions_probes(text)


def is_of_probes(item: object) -> bool:
    """A virtual host, or a chain of filters for one server name."""
    if not isinstance(item, dict):
        return False
    match = item.get("filterChainMatch")
    servers = match.get("serverNames") or [] if isinstance(match, dict) else []
    return is_ours(str(item.get("name", ""))) or any(is_ours(str(server)) for server in servers)


def without_probes(held: ProxyConfig) -> dict[str, Any]:
    """The same without what is there for probes only: whole parts that mention one, and their hosts and chains in parts
    that others have too. A listener is theirs if the routes are that it names."""
    routes = {part.removeprefix("route ") for part, content in held.items() if part.startswith("route ")}
    theirs = {name for name in routes if _is_theirs_alone(held[f"route {name}"])}
    kept = {part: content for part, content in held.items() if not is_ours(part)}
    return {
        part: _stripped(content)
        for part, content in kept.items()
        if not (part.startswith("route ") and part.removeprefix("route ") in theirs)
        and not (part.startswith("listener ") and _is_for(content, theirs))
    }


def _is_theirs_alone(route: Any) -> bool:
    """Every host is one of ours, but for the one that stands for all others."""
    hosts = [host for host in route.get("virtualHosts") or [] if host.get("domains") != ["*"]]
    return bool(hosts) and all(map(is_of_probes, hosts))


def _is_for(listener: Any, routes: set[str]) -> bool:
    """It forwards to a probe, or its routes are theirs: one that many share names none of ours."""
    text = json.dumps(_stripped(listener))
    return is_ours(text) or any(json.dumps({"routeConfigName": name})[1:-1] in text for name in routes)


def _stripped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _stripped(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_stripped(each) for each in value if not is_of_probes(each)]
    return value
