"""Configuration without what differs between two moments of an unchanged mesh."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from meshproof import names
from meshproof.clients.kube import Json
from meshproof.upgrade.record.workloads import Directory

UNORDERED: Final = frozenset(
    {"domains", "filterChains", "matchSubjectAltNames", "matchTypedSubjectAltNames", "prefixRanges", "serverNames"}
    | {"virtualHosts"}
)
"""Lists whose order means nothing to Envoy. istiod writes some in the order in which Services were made."""

DROPPED: Final = frozenset({"lastUpdateAttempt", "versionInfo", "lastUpdated"})
"""When something came, and under which number."""


def canonical(value: object) -> str:
    """A text that is the same for the same value."""
    return json.dumps(value, sort_keys=True)


def normal(value: Any, directory: Directory) -> Any:
    """Addresses by their owners, unordered lists in one order, nothing about probes of ours."""
    if isinstance(value, dict):
        return {
            directory.named(key): _sorted(each) if key in UNORDERED else each
            for key, each in ((key, normal(each, directory)) for key, each in value.items() if key not in DROPPED)
        }
    if isinstance(value, list):
        return [normal(each, directory) for each in value if not _is_of_probes(each)]
    return directory.named(value) if isinstance(value, str) else value


def _sorted(value: Any) -> Any:
    return sorted(value, key=canonical) if isinstance(value, list) else value


def is_ours(name: str) -> bool:
    """Whether something is there for a probe of ours only: for a Service in a namespace of ours, or a canary."""
    return names.OUR_NAMESPACES in name


def _is_of_probes(item: object) -> bool:
    """A virtual host, or a chain of filters for one server name."""
    if not isinstance(item, dict):
        return False
    match = item.get("filterChainMatch")
    servers = match.get("serverNames") or [] if isinstance(match, dict) else []
    return is_ours(str(item.get("name", ""))) or any(is_ours(str(server)) for server in servers)


# -- endpoints --------------------------------------------------------------------------------------------------------


def endpoints(assignment: Json, directory: Directory) -> Json:
    """By who they are: weight, health, locality, and how many of a workload's pods are alike."""
    found: dict[str, Counter[str]] = {}
    for group in assignment.get("endpoints") or []:
        for endpoint in group.get("lbEndpoints") or []:
            where = directory.named(_address((endpoint.get("endpoint") or {}).get("address") or {}))
            found.setdefault(where, Counter())[canonical(_facts(group, endpoint, directory))] += 1
    policy: Json = normal({k: v for k, v in assignment.items() if k not in ("clusterName", "endpoints")}, directory)
    alike = {
        where: [json.loads(text) | {"count": count} for text, count in sorted(kinds.items())]
        for where, kinds in found.items()
    }
    return {"endpoints": {where: kinds[0] if len(kinds) == 1 else kinds for where, kinds in alike.items()}} | policy


def _address(address: Mapping[str, Any]) -> str:
    socket = address.get("socketAddress")
    return f"{socket.get('address')}:{socket.get('portValue')}" if socket else canonical(address)


def _facts(group: Json, endpoint: Json, directory: Directory) -> Json:
    place = group.get("locality") or {}
    return {
        "weight": int(endpoint.get("loadBalancingWeight") or 1),
        "health": endpoint.get("healthStatus") or "UNKNOWN",
        "locality": "/".join(part for part in map(place.get, ("region", "zone", "subZone")) if part),
        "localityWeight": int(group.get("loadBalancingWeight") or 0),
        "priority": int(group.get("priority") or 0),
        "metadata": normal((endpoint.get("metadata") or {}).get("filterMetadata") or {}, directory),
    }
