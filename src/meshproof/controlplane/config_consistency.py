"""Comparing what primaries are told about hosts that they share: a rule in one of them only holds from one side."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from meshproof.clients.istio.configuration import is_probe, place_of
from meshproof.clients.kubernetes.client import Json
from meshproof.core import names

COMPARED: Final = (
    "Gateway",
    "VirtualService",
    "DestinationRule",
    "ServiceEntry",
    "PeerAuthentication",
    "RequestAuthentication",
    "AuthorizationPolicy",
)
"""Kinds that decide where requests for a host go, or whether they are served."""

PLUMBING: Final = frozenset({names.ISTIOD_GATEWAY, "istiod-vs"})
"""What exposes an istiod to its own remotes: it belongs to that primary alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """`problems` per object that differs, and `own`, what concerns hosts that one cluster alone has."""

    problems: Mapping[str, list[str]]
    own: tuple[str, ...]
    compared: tuple[str, ...]


def compare(objects: Mapping[str, Sequence[Json]], services: Mapping[str, frozenset[str]]) -> Comparison:
    """Compare the objects of each primary, by cluster name.

    `services` are the hosts (`name.namespace.svc.cluster.local`) of the Services of each cluster of the mesh: an object
    whose hosts are Services of one cluster only may be in that cluster's control plane only.
    """
    specs = {cluster: {place_of(item): item for item in items if _counts(item)} for cluster, items in objects.items()}
    problems: dict[str, list[str]] = {}
    own: list[str] = []
    places = sorted({place for found in specs.values() for place in found})
    for place in places:
        having = {cluster: found[place] for cluster, found in specs.items() if place in found}
        if not any(_is_shared(item, services) for item in having.values()):
            own.append(place)
        elif differences := _differences(having, [cluster for cluster in specs if cluster not in having]):
            problems[place] = differences
    return Comparison(problems=problems, own=tuple(own), compared=tuple(places))


def _counts(item: Json) -> bool:
    return not is_probe(item) and item["metadata"]["name"] not in PLUMBING


def _differences(having: Mapping[str, Json], lacking: Sequence[str]) -> list[str]:
    first, *others = having
    found = [f"it is in {', '.join(having)} only, not in {', '.join(lacking)}"] if lacking else []
    for other in others:
        where = sorted(_paths(having[first].get("spec") or {}, having[other].get("spec") or {}))
        if where:
            found.append(f"{first} and {other} differ in {'; '.join(where[:5])}")
    return found


def _paths(one: Any, two: Any, path: str = "spec") -> list[str]:
    """Where two values differ, with both values."""
    if isinstance(one, dict) and isinstance(two, dict):
        return [p for key in sorted({*one, *two}) for p in _paths(one.get(key), two.get(key), f"{path}.{key}")]
    if isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        pairs = enumerate(zip(one, two, strict=True))
        return [p for index, (a, b) in pairs for p in _paths(a, b, f"{path}[{index}]")]
    return [] if one == two else [f"{path}: {_short(one)} and {_short(two)}"]


def _short(value: Any) -> str:
    text = "nothing" if value is None else json.dumps(value, sort_keys=True)
    return text if len(text) <= 80 else text[:77] + "..."


def hosts_of(item: Json) -> list[str]:
    """The hosts that an object speaks of; none for policies, which select workloads."""
    spec = item.get("spec") or {}
    if item["kind"] == "Gateway":
        return [host for server in spec.get("servers") or [] for host in server.get("hosts") or []]
    if item["kind"] == "DestinationRule":
        return [spec.get("host") or ""]
    return list(spec.get("hosts") or [])


def _is_shared(item: Json, services: Mapping[str, frozenset[str]]) -> bool:
    """Whether more than one cluster has something to do with it; hosts that are no Services belong to everybody."""
    namespace = item["metadata"]["namespace"]
    owners = [_owners(host, namespace, services) for host in hosts_of(item)]
    return not owners or any(len(clusters) != 1 for clusters in owners)


def _owners(host: str, namespace: str, services: Mapping[str, frozenset[str]]) -> list[str]:
    full = host if "." in host or host == "*" else names.fqdn(host, namespace)
    return [cluster for cluster, known in services.items() if full in known]


def service_hosts(services: Iterable[tuple[str, str]]) -> frozenset[str]:
    """From (namespace, name) of Services."""
    return frozenset(names.fqdn(name, namespace) for namespace, name in services)


def lying_in_remotes(items: Iterable[Json]) -> list[str]:
    """What somebody applied in a remote cluster, where nobody reads it."""
    return sorted(place_of(item) for item in items if not is_probe(item))
