"""Infers roles and control planes from the readings of all clusters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from urllib.parse import urlsplit

from meshproof.clients.kubernetes.client import Kube
from meshproof.core.concurrency import together
from meshproof.core.model import EAST_WEST, INGRESS, GatewayRef, Role
from meshproof.core.names import SYSTEM_NAMESPACE
from meshproof.detect.read import REVISION, TRUST_DOMAIN, ClusterReading, Trait, read
from meshproof.discovery.naming import CLUSTER, MESH, NETWORK
from meshproof.discovery.remote_secrets import LABEL, RemoteSecret


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundCluster:
    """One cluster. `role` is None if it has no part of a mesh. `name` is Istio's, else that of its context.

    `traits` are the settings found in it and in the remote secrets of others. `controlled_by` are the contexts of the
    possible primaries, and `why` is how they were determined.
    """

    reading: ClusterReading
    role: Role | None
    traits: tuple[Trait, ...]
    controlled_by: tuple[str, ...] = ()
    why: str = ""

    @property
    def context(self) -> str:
        return self.reading.kube.context

    @property
    def name(self) -> str:
        return self.first(CLUSTER) or self.context

    def values(self, what: str) -> tuple[str, ...]:
        """The distinct values of a trait, the most authoritative first; several if places contradict each other."""
        return tuple(dict.fromkeys(each.value for each in self.traits if each.what == what))

    def first(self, what: str) -> str:
        return next(iter(self.values(what)), "")

    def places(self, what: str) -> str:
        """A trait's values, each with the places where it was found."""
        places_by_value = {
            value: [s.place for s in self.traits if (s.what, s.value) == (what, value)] for value in self.values(what)
        }
        return "; ".join(f"{value} ({', '.join(places)})" for value, places in places_by_value.items())


def find_clusters(kubes: Iterable[Kube]) -> tuple[FoundCluster, ...]:
    """Read these clusters concurrently, and join the readings."""
    return join(together(read, kubes))


def join(readings: Sequence[ClusterReading]) -> tuple[FoundCluster, ...]:
    """The clusters in the order of their readings."""
    traits = {id(reading): (*reading.traits, *_of_secrets(reading, readings)) for reading in readings}
    primaries = [reading for reading in readings if reading.istiods]
    found = []
    for reading in readings:
        role = Role.PRIMARY if reading.istiods else Role.REMOTE if reading.hooks or reading.dials else None
        controllers: tuple[str, ...] = (reading.kube.context,) if role is Role.PRIMARY else ()
        why = ""
        if role is Role.REMOTE:
            names = {id(p): _name(traits[id(p)]) for p in primaries}
            controllers, why = _controllers(reading, primaries, names, _name(traits[id(reading)]))
        found.append(
            FoundCluster(reading=reading, role=role, traits=traits[id(reading)], controlled_by=controllers, why=why)
        )
    return tuple(found)


def _name(traits: Iterable[Trait]) -> str:
    return next((each.value for each in traits if each.what == CLUSTER), "")


def _of_secrets(reading: ClusterReading, readings: Sequence[ClusterReading]) -> Iterator[Trait]:
    """The cluster's name in other clusters: the key of the remote secret with the same API server."""
    for other in readings:
        for secret in other.secrets:
            if other is not reading and secret.server and _same(secret.server, reading.kube.server):
                place = f"secret {secret} of context {other.kube.context}"
                yield Trait(what=CLUSTER, value=secret.cluster, place=place)


def _same(one: str, other: str) -> bool:
    left, right = urlsplit(one), urlsplit(other)
    return (left.hostname, left.port or 443) == (right.hostname, right.port or 443)


def unknown_clusters(each: FoundCluster, names: Set[str], found: Sequence[FoundCluster]) -> list[RemoteSecret]:
    """Remote secrets of a primary for clusters that are none of `names`.

    Only if it has one for each of the others, and none of theirs is meant: else one of them has a wrong name.
    """
    keys = {secret.cluster for secret in each.reading.secrets}
    if names - keys - {each.name}:
        return []
    servers = [other.reading.kube.server for other in found]
    return [
        secret
        for secret in each.reading.secrets
        if secret.cluster not in names and not any(secret.server and _same(secret.server, one) for one in servers)
    ]


def _controllers(
    remote: ClusterReading, primaries: Sequence[ClusterReading], names: dict[int, str], own: str
) -> tuple[tuple[str, ...], str]:
    """The primaries whose istiod it connects to, else those that it allows, else those that read it, else all.

    An annotation that allows every cluster (`*`) is ignored.
    """
    criteria = (
        ("it connects to that istiod", [p for p in primaries if set(_addresses(p)) & set(remote.dials)]),
        ("the annotation of its istio-system names it", [p for p in primaries if names[id(p)] in remote.controllers]),
        (
            f"that cluster has a secret with {LABEL} for it",
            [p for p in primaries if own in {s.cluster for s in p.secrets}],
        ),
        ("there is no other istiod", list(primaries)),
    )
    for why, them in criteria:
        if len(them) == 1:
            return (them[0].kube.context,), why
    them = next((them for _, them in criteria if them), [])
    return tuple(p.kube.context for p in them), ""


def _addresses(primary: ClusterReading) -> Iterator[str]:
    """Addresses at which istiod may be reachable from other clusters: those of any Service."""
    return (address for service in primary.services for address in service.addresses)


# -- descriptions
# ---------------------------------------------------------------------------------------------------------


def describe_clusters(found: Sequence[FoundCluster]) -> list[str]:
    """The result, one line for each cluster and one for the mesh."""
    lines = [f"{each.name} (context {each.context}): {'; '.join(_parts(each, found))}" for each in found]
    for what in (MESH, TRUST_DOMAIN):
        values = dict.fromkeys(value for each in found for value in each.values(what))
        if values:
            lines.append(f"{what}{'' if what == TRUST_DOMAIN else ' ID'}: {' and '.join(values)}")
    return lines


def _parts(each: FoundCluster, found: Sequence[FoundCluster]) -> Iterator[str]:
    reading = each.reading
    if each.role is None:
        yield "no istiod and no injection webhook" if reading.has_namespace else "no namespace istio-system"
        return
    networks = " and ".join(each.values(NETWORK)) or "unnamed"
    yield f"{_role(each, found)}, network {networks}"
    for istiod in reading.istiods:
        yield f"istiod of revision {istiod.revision}, {istiod.replicas} ready, image {istiod.image}"
    if each.role is Role.REMOTE:
        yield f"revision {' and '.join(each.values(REVISION)) or 'unknown'}"
    for service in reading.gateways:
        ports = ", ".join(map(str, sorted(service.port_numbers)))
        name = service.name if service.namespace == SYSTEM_NAMESPACE else service
        yield f"gateway {name} at {', '.join(service.addresses)}, ports {ports}"
    for what, default, candidates in gateway_candidates(reading):
        if len(candidates) > 1:
            yield f"{' or '.join(map(str, candidates))} is its {what}"
        elif not candidates and default == INGRESS:
            yield f"no {what}"
        elif candidates not in ((), (default,)):
            yield f"{what} {candidates[0]}"
    if reading.istiods:
        yield f"remote secrets not readable ({reading.secrets_withheld})" if reading.secrets_withheld else _reads(each)


def gateway_candidates(reading: ClusterReading) -> tuple[tuple[str, GatewayRef, tuple[GatewayRef, ...]], ...]:
    """For the ingress and the east-west gateway its kind, its default name, and the candidates: the one of that
    name alone, if it exists."""
    kinds = (("ingress gateway", INGRESS, reading.ingresses), ("east-west gateway", EAST_WEST, reading.east_wests))
    return tuple(
        (what, usual, (usual,) if usual in reading.there else tuple(service.ref for service in services))
        for what, usual, services in kinds
    )


def _role(each: FoundCluster, found: Sequence[FoundCluster]) -> str:
    if each.role is Role.PRIMARY:
        return "primary"
    names = [other.name for other in found if other.context in each.controlled_by]
    return f"remote of {' or '.join(names) or 'an unknown istiod'}{f' ({each.why})' if each.why else ''}"


def _reads(each: FoundCluster) -> str:
    keys = sorted({secret.cluster for secret in each.reading.secrets})
    return f"has remote secrets for {', '.join(keys)}" if keys else "has no remote secret"
