"""What was found on the clusters, in one line for the mesh and for each cluster, and two for what connects them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from meshproof.core.model import Role
from meshproof.detect.infer import FoundCluster, gateway_candidates
from meshproof.detect.read import REVISION, TRUST_DOMAIN
from meshproof.discovery.naming import MESH, NETWORK
from meshproof.providers.kubeconfig import hub_and_tag

NOTHING = "none"


def overview(found: Sequence[FoundCluster], topology: str) -> list[str]:
    """Two clusters take five lines; `topology` is the name of theirs."""
    networks = list(dict.fromkeys(network for each in found for network in each.values(NETWORK)))
    rows = [
        ("mesh", f"{topology}: {', '.join(_of_mesh(found))}, {_count(len(networks) or 1, 'network')}"),
        *((each.name, "; ".join(_of_cluster(each, found))) for each in found),
        ("gateways", "; ".join(f"{each.name} {', '.join(_gateways(each))}" for each in found)),
        ("remote secrets", "; ".join(_secrets(found)) or NOTHING),
    ]
    width = max(len(label) for label, _ in rows)
    return [f"{label:<{width}}  {text}" for label, text in rows]


def _of_mesh(found: Sequence[FoundCluster]) -> Iterator[str]:
    """The settings that all clusters should have in common."""
    for what, shown in ((MESH, ""), (TRUST_DOMAIN, "trust domain ")):
        values = dict.fromkeys(value for each in found for value in each.values(what))
        if values:
            yield f"{shown}{' and '.join(values)}"


def _of_cluster(each: FoundCluster, found: Sequence[FoundCluster]) -> Iterator[str]:
    yield f"context {each.context}"
    if each.role is Role.PRIMARY:
        yield "primary"
    else:
        names = [other.name for other in found if other.context in each.controlled_by]
        yield f"remote of {' or '.join(names) or 'an unknown istiod'}"
    yield " and ".join(each.values(NETWORK)) or "no network named"
    revisions = ", ".join(each.values(REVISION)) or "unknown"
    if not each.reading.istiods:
        yield f"revision {revisions}"
    for istiod in each.reading.istiods:
        yield f"istiod {hub_and_tag(istiod.image)[1]} of revision {istiod.revision}, {istiod.replicas} ready"


def _gateways(each: FoundCluster) -> Iterator[str]:
    services = {service.ref: service for service in each.reading.services}
    for kind, usual, candidates in gateway_candidates(each.reading):
        shown = kind.removesuffix(" gateway")
        named = [
            f"{'' if ref == usual else f'{ref} '}{', '.join(services[ref].addresses) or '(no address)'}"
            for ref in candidates
            if ref in services
        ]
        if named:
            yield f"{shown} {' or '.join(named)}"
        else:
            yield f"no {shown}"


def _secrets(found: Sequence[FoundCluster]) -> Iterator[str]:
    for each in found:
        if not each.reading.istiods:
            continue
        if each.reading.secrets_withheld:
            yield f"{each.name}: not readable"
        else:
            keys = sorted({secret.cluster for secret in each.reading.secrets})
            yield f"{each.name} has {', '.join(keys) or NOTHING}"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' if number > 1 else ''}"
