"""Configuration without what differs between two moments of an unchanged mesh, or by its revision's name."""

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
"""Lists whose order means nothing to Envoy. istiod writes some in the order in which Services were made."""

HEALTHY: Final = "HEALTHY"
NAMED: Final = ("istiod", "istio-sidecar-injector", "istio-validator", "istio")
"""Objects that have the revision in their name (chart istio-discovery): Service, webhooks, ConfigMaps."""


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


# -- revisions --------------------------------------------------------------------------------------------------------


def without_revision(record: BaselineRecord) -> BaselineRecord:
    """The same with the names of the default revision, if all istiods are of one that is another.

    Where two revisions run side by side they stay apart. What the default revision has left behind keeps its name,
    and that of the new one stays as it is beside it.
    """
    told = {key.workload.partition(f"/{names.ISTIOD}")[2] for key in record.parts if _is_istiod(key)}
    revision = told.pop().removeprefix("-") if len(told) == 1 else ""
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
