"""Configuration without what differs between two moments of an unchanged mesh."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from meshproof.clients.kubernetes.client import Json
from meshproof.discovery.probe_filter import is_of_probes

UNORDERED: Final = frozenset(
    (
        "domains",
        "filterChains",
        "matchSubjectAltNames",
        "matchTypedSubjectAltNames",
        "prefixRanges",
        "serverNames",
        "virtualHosts",
    )
)
"""Lists whose order means nothing to Envoy. istiod writes some in the order in which Services were made."""

HEALTHY: Final = "HEALTHY"


def canonical(value: object) -> str:
    """A text that is the same for the same value."""
    return json.dumps(value, sort_keys=True)


def normal(value: Any, named: Callable[[str], str]) -> Any:
    """Every text as `named` has it, unordered lists in one order, nothing about probes of ours."""
    if isinstance(value, dict):
        return {
            named(key): _sorted(each) if key in UNORDERED else each
            for key, each in ((key, normal(each, named)) for key, each in value.items())
        }
    if isinstance(value, list):
        return [normal(each, named) for each in value if not is_of_probes(each)]
    return named(value) if isinstance(value, str) else value


def _sorted(value: Any) -> Any:
    return sorted(value, key=canonical) if isinstance(value, list) else value


# -- endpoints --------------------------------------------------------------------------------------------------------


def endpoints(assignment: Json, named: Callable[[str], str]) -> Json:
    """By who they are and whether they are healthy: weight, locality, and how many of a workload's pods are alike."""
    found: dict[str, Counter[str]] = {}
    for group in assignment.get("endpoints") or []:
        for endpoint in group.get("lbEndpoints") or []:
            where = named(_address((endpoint.get("endpoint") or {}).get("address") or {}))
            facts = _facts(group, endpoint, named)
            if facts["health"] != HEALTHY:
                where = f"{where} {str(facts['health']).lower()}"
            found.setdefault(where, Counter())[canonical(facts)] += 1
    policy: Json = normal({k: v for k, v in assignment.items() if k not in ("clusterName", "endpoints")}, named)
    return {"endpoints": {where: _one(kinds) for where, kinds in found.items()}} | policy


def _one(kinds: Counter[str]) -> object:
    """What all are, or a list if some are other than others."""
    told = [json.loads(text) | {"count": count} for text, count in sorted(kinds.items())]
    return told[0] if len(told) == 1 else told


def _address(address: Mapping[str, Any]) -> str:
    socket = address.get("socketAddress")
    return f"{socket.get('address')}:{socket.get('portValue')}" if socket else canonical(address)


def _facts(group: Json, endpoint: Json, named: Callable[[str], str]) -> Json:
    """The weight of the locality is told where it is another one than the sum of its endpoints', as istiod has it."""
    place = group.get("locality") or {}
    own, total = int(group.get("loadBalancingWeight") or 0), sum(map(_weight, group.get("lbEndpoints") or []))
    return {
        "weight": _weight(endpoint),
        "health": endpoint.get("healthStatus") or "UNKNOWN",
        "locality": "/".join(part for part in map(place.get, ("region", "zone", "subZone")) if part),
        "priority": int(group.get("priority") or 0),
        "metadata": normal((endpoint.get("metadata") or {}).get("filterMetadata") or {}, named),
    } | ({"localityWeight": own} if own not in (0, total) else {})


def _weight(endpoint: Json) -> int:
    return int(endpoint.get("loadBalancingWeight") or 1)
