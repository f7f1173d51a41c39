"""Normalises configuration: removes differences without a change of the mesh, and revision names."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from meshproof.clients.kubernetes.client import Json
from meshproof.core import names
from meshproof.discovery.probe_filter import is_of_probes
from meshproof.upgrade.baseline.model import ISTIOD, VERSION, BaselineRecord, Key

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
"""Lists whose order is irrelevant to Envoy. istiod writes some in the order in which Services were created."""

HEALTHY: Final = "HEALTHY"
NAMED: Final = ("istiod", "istio-sidecar-injector", "istio-validator", "istio")
"""Objects with the revision in their name (chart istio-discovery): Service, webhooks, ConfigMaps."""


def canonical(value: object) -> str:
    """A text that is equal for equal values."""
    return json.dumps(value, sort_keys=True)


def normal(value: Any, named: Callable[[str], str]) -> Any:
    """The value with texts mapped by `named`, unordered lists sorted, and our probes removed."""
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
    """Endpoints by workload and health: weight, locality, and the number of equal pods."""
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
    """The common facts, or a list if endpoints differ."""
    facts = [json.loads(text) | {"count": count} for text, count in sorted(kinds.items())]
    return facts[0] if len(facts) == 1 else facts


def _address(address: Mapping[str, Any]) -> str:
    socket = address.get("socketAddress")
    return f"{socket.get('address')}:{socket.get('portValue')}" if socket else canonical(address)


def _facts(group: Json, endpoint: Json, named: Callable[[str], str]) -> Json:
    """The locality weight is included only if it differs from the sum of its endpoints' weights, istiod's default."""
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


# -- revisions --------------------------------------------------------------------------------------------------------


def without_revision(record: BaselineRecord) -> BaselineRecord:
    """The record with the names of the default revision, if all istiods have one other revision.

    If two revisions run side by side, their names are kept. If an object of the default revision still exists, that of
    the new revision keeps its name too.
    """
    suffixes = {key.workload.partition(f"/{names.ISTIOD}")[2] for key in record.parts if _is_istiod(key)}
    revision = suffixes.pop().removeprefix("-") if len(suffixes) == 1 else ""
    if not revision:
        return record
    renamed = _renaming(revision)

    def of_webhook(text: str) -> str:
        return names.DEFAULT_REVISION if text == revision else renamed(text)

    parts = {}
    for key, content in record.parts.items():
        other = Key(cluster=key.cluster, workload=renamed(key.workload), kind=key.kind, name=renamed(key.name))
        known = key if other != key and other in record.parts else other
        parts[known] = normal(content, of_webhook if key.kind == "webhook" else renamed)
    return replace(record, parts=parts)


def _is_istiod(key: Key) -> bool:
    return (key.kind, key.name) == (VERSION, ISTIOD)


def _renaming(revision: str) -> Callable[[str], str]:
    pattern = re.compile(rf"(?<![\w-])({'|'.join(NAMED)})-{re.escape(revision)}(?=-istio-system|[^a-zA-Z0-9-]|$)")
    return lambda text: pattern.sub(r"\1", text)
