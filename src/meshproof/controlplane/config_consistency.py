"""Comparing the configuration of primaries for shared hosts: a rule in one primary holds for its clients only."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from meshproof.clients.istio.configuration import is_probe, place_of
from meshproof.clients.kubernetes.client import Json
from meshproof.core import names
from meshproof.core.structural_diff import differences

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
"""Objects that expose an istiod to its own remotes; they belong to that primary alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrimaryComparison:
    """`problems` per object that differs, and `own`: objects for hosts that only one cluster has."""

    problems: Mapping[str, list[str]]
    own: tuple[str, ...]
    compared: tuple[str, ...]


def compare_primaries(
    objects: Mapping[str, Sequence[Json]],
    services: Mapping[str, frozenset[str]],
    namespaces: Mapping[str, frozenset[str]] | None = None,
) -> PrimaryComparison:
    """Compare the objects of each primary, by cluster name.

    `services` are the hosts (`name.namespace.svc.cluster.local`) of the Services of each cluster of the mesh: an object
    whose hosts are Services of one cluster only may be in that cluster's control plane only. So may one in a namespace
    that the clusters of no other primary have (`namespaces`), unless it is for a Service that other clusters have.
    """
    specs = {cluster: {place_of(item): item for item in items if _counts(item)} for cluster, items in objects.items()}
    problems: dict[str, list[str]] = {}
    own: list[str] = []
    places = sorted({place for found in specs.values() for place in found})
    for place in places:
        having = {cluster: found[place] for cluster, found in specs.items() if place in found}
        home = _home(place, namespaces or {})
        if not any(_is_shared(item, services, home) for item in having.values()):
            own.append(place)
        elif found := _differences(having, [cluster for cluster in specs if cluster not in having]):
            problems[place] = found
    return PrimaryComparison(problems=problems, own=tuple(own), compared=tuple(places))


def _counts(item: Json) -> bool:
    return not is_probe(item) and item["metadata"]["name"] not in PLUMBING


def _differences(having: Mapping[str, Json], lacking: Sequence[str]) -> list[str]:
    first, *others = having
    found = [f"it is in {', '.join(having)} only, not in {', '.join(lacking)}"] if lacking else []
    for other in others:
        mine, theirs = having[first].get("spec") or {}, having[other].get("spec") or {}
        where = sorted(f"{at}: {_short(one)} and {_short(two)}" for at, one, two in differences(mine, theirs, "spec"))
        if where:
            found.append(f"{first} and {other} differ in {'; '.join(where[:5])}")
    return found


def _short(value: Any) -> str:
    text = "nothing" if value is None else json.dumps(value, sort_keys=True)
    return text if len(text) <= 80 else text[:77] + "..."


def hosts_of(item: Json) -> list[str]:
    """The hosts that an object refers to; none for policies, which select workloads."""
    spec = item.get("spec") or {}
    if item["kind"] == "Gateway":
        return [host for server in spec.get("servers") or [] for host in server.get("hosts") or []]
    if item["kind"] == "DestinationRule":
        return [spec.get("host") or ""]
    return list(spec.get("hosts") or [])


def _home(place: str, namespaces: Mapping[str, frozenset[str]]) -> str:
    """The primary whose clusters alone have the namespace of an object; empty if others have it, too."""
    namespace = place.partition(" ")[2].partition("/")[0]
    having = [primary for primary, known in namespaces.items() if namespace in known]
    return having[0] if len(having) == 1 else ""


def _is_shared(item: Json, services: Mapping[str, frozenset[str]], home: str) -> bool:
    """Whether it concerns more than one cluster; hosts that are no Services concern all, unless its namespace is of one
    control plane only (`home`)."""
    namespace = item["metadata"]["namespace"]
    owners = [_owners(host, namespace, services) for host in hosts_of(item)]
    if home:
        return any(set(clusters) - {home} for clusters in owners)
    return not owners or any(len(clusters) != 1 for clusters in owners)


def _owners(host: str, namespace: str, services: Mapping[str, frozenset[str]]) -> list[str]:
    full = host if "." in host or host == "*" else names.fqdn(host, namespace)
    return [cluster for cluster, known in services.items() if full in known]


def service_hosts(services: Iterable[tuple[str, str]]) -> frozenset[str]:
    """From (namespace, name) of Services."""
    return frozenset(names.fqdn(name, namespace) for namespace, name in services)


def ignored_in_remote(items: Iterable[Json], read: Iterable[Json] = ()) -> tuple[list[str], list[str]]:
    """Objects in a remote cluster, where no istiod reads them: those that its primary does not have alike among what it
    reads, and copies of what it has, which do no harm."""
    known = {place_of(item): item.get("spec") or {} for item in read}
    here = {place_of(item): item.get("spec") or {} for item in items if not is_probe(item)}
    copies = {place for place, spec in here.items() if place in known and not [*differences(known[place], spec, "")]}
    return sorted(here.keys() - copies), sorted(copies)
