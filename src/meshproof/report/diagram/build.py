"""Builds a picture from a topology, a snapshot and results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Final

from meshproof.claims.claim import Claim, Family, not_applicable
from meshproof.claims.results import ClaimResult
from meshproof.core import names
from meshproof.core.model import ClusterSpec, Topology
from meshproof.gateways.ports import PORT_STATUS
from meshproof.mesh.objects import ServiceFacts
from meshproof.mesh.snapshot import ClusterFacts, Snapshot
from meshproof.pki.verify import fingerprint, parse_chain
from meshproof.report.diagram.model import ClusterPicture, Kind, Link, Part, Picture, Proof

SHOWN_ENDPOINTS: Final = 2
"""Number of the application's addresses that are shown."""
SHOWN_DIGITS: Final = 23
"""Length of the shown part of a root's SHA-256: eight bytes."""

FAMILIES: Final = tuple(Family)


def plan(topology: Topology, claims: Iterable[Claim] = ()) -> Picture:
    """The planned topology, and where its claims belong."""
    clusters = tuple(
        _planned(topology, cluster)
        for network in topology.networks
        for cluster in topology.clusters
        if cluster.network == network
    )
    return Picture(
        name=topology.name,
        title=topology.title,
        about=(f"mesh {topology.mesh_id}", f"trust domain {topology.trust_domain}", "as planned"),
        clusters=clusters,
        links=(
            *(Link(kind=Kind.TRUST, source=a.name, target=b.name, caption="one root") for a, b in pairwise(clusters)),
            *_links(topology),
        ),
        proofs=tuple(
            Proof(code=claim.code, text=claim.sentence) for claim in claims if not_applicable(claim, topology) is None
        ),
    )


def _planned(topology: Topology, cluster: ClusterSpec) -> ClusterPicture:
    primary = topology.control_plane_of(cluster)
    controlled = [c.name for c in topology.controlled_by(cluster)]
    if cluster is primary:
        trust = Part(title="own CA", lines=("signs for " + ", ".join(controlled),))
        istiod = Part(title="istiod", lines=("controls " + ", ".join(controlled),))
    else:
        trust = Part(title="no CA in use", lines=(f"signed by {primary.name}",))
        istiod = Part(title="no istiod", lines=(f"controlled by {primary.name}",))
    ports = ((names.PORT_SERVICES,) if topology.exposes_services(cluster) else ()) + (
        (names.PORT_XDS, names.PORT_WEBHOOK) if topology.exposes_istiod(cluster) else ()
    )
    return ClusterPicture(
        name=cluster.name,
        role=cluster.role,
        network=cluster.network,
        trust=trust,
        api_server=Part(title="API server"),
        istiod=istiod,
        gateway=Part(title="east-west gateway", lines=(_shown(ports),)) if ports else None,
        app=Part(
            title=f"{names.APP_SERVICE} {cluster.app_version}", lines=(f"pods {cluster.pods}",) if cluster.pods else ()
        ),
        clients=Part(title="ingress gateway, clients" if cluster.ingress else "clients, no ingress gateway"),
    )


def _links(topology: Topology) -> Iterator[Link]:
    for primary in topology.primaries:
        for cluster in topology.clusters:
            yield Link(kind=Kind.DISCOVERY, source=primary.name, target=cluster.name, caption="reads")
        for cluster in topology.controlled_by(primary):
            yield Link(kind=Kind.CONTROL, source=primary.name, target=cluster.name, caption="controls")
        for remote in topology.remotes_of(primary):
            yield Link(
                kind=Kind.CONTROL,
                source=remote.name,
                target=primary.name,
                caption="dials",
                ports=(names.PORT_XDS, names.PORT_WEBHOOK),
            )
    for client, server in topology.pairs_across_networks:
        yield Link(
            kind=Kind.GATEWAY,
            source=client.name,
            target=server.name,
            caption="calls",
            ports=(names.PORT_SERVICES,),
        )
    for client, server in topology.pairs_on_one_network:
        yield Link(kind=Kind.DIRECT, source=client.name, target=server.name, caption="pod IPs")
    for cluster in topology.clusters:
        yield Link(kind=Kind.REQUESTS, source=cluster.name, target=cluster.name, caption="requests")


def with_facts(picture: Picture, snapshot: Snapshot, kubernetes: Mapping[str, str]) -> Picture:
    """Add a snapshot's facts, and the Kubernetes versions by cluster; contacts no cluster."""
    total = sum(len(facts.ready_endpoints) for facts in snapshot.facts)
    tools = snapshot.mesh.toolbox
    by_name = {facts.cluster.name: facts for facts in snapshot.facts}
    return replace(
        picture,
        about=(*picture.about[:2], f"Istio {tools.istio_version}", "as found"),
        clusters=tuple(
            _found(cluster, by_name[cluster.name], total, kubernetes.get(cluster.name, ""))
            for cluster in picture.clusters
        ),
    )


def _found(planned: ClusterPicture, facts: ClusterFacts, total: int, kubernetes: str) -> ClusterPicture:
    server = facts.cluster.access.server_for_peers
    return replace(
        planned,
        kubernetes=kubernetes,
        trust=_more(planned.trust, *_roots(facts)),
        api_server=_more(planned.api_server, server.removeprefix("https://")),
        istiod=_istiod(planned, facts),
        gateway=_gateway(planned.gateway, facts.east_west),
        app=_app(planned.app, facts, total),
        clients=_clients(planned.clients, facts),
    )


def _more(part: Part, *lines: str) -> Part:
    return replace(part, lines=(*part.lines, *lines))


def _roots(facts: ClusterFacts) -> tuple[str, ...]:
    """The root that namespaces trust, by the first bytes of its SHA-256."""
    prints: set[str] = set()
    for text in facts.root_maps.values():
        try:
            prints.update(fingerprint(root) for root in parse_chain(text))
        except ValueError:
            return ("unreadable root",)
    if len(prints) > 1:
        return (f"{len(prints)} different roots",)
    return tuple(f"root {digest[:SHOWN_DIGITS]}" for digest in prints) or ("no root",)


def _istiod(planned: ClusterPicture, facts: ClusterFacts) -> Part:
    proxies = f"proxies here: {len(facts.proxies)}"
    if not facts.istiods:
        is_primary = facts.cluster.is_primary
        return replace(_more(planned.istiod, *(("missing",) if is_primary else ()), proxies), missing=is_primary)
    ready = sum(pod.ready for pod in facts.istiods)
    revisions = ", ".join(sorted({pod.revision or "default" for pod in facts.istiods}))
    running = f"{ready} of {len(facts.istiods)} ready, revision {revisions}"
    return _more(planned.istiod, running, proxies)


def _gateway(planned: Part | None, service: ServiceFacts | None) -> Part | None:
    if service is None:
        return replace(_more(planned, "missing"), missing=True) if planned else None
    where = service.addresses or ("no external address",)
    part = Part(title="east-west gateway", lines=(*where, _shown(service.port_numbers)), missing=not service.addresses)
    return part if planned else _more(part, "not needed here")


def _shown(ports: Iterable[int]) -> str:
    return " ".join(f":{port}" for port in sorted(ports) if port != PORT_STATUS)


def _app(planned: Part, facts: ClusterFacts, total: int) -> Part:
    ready = [f"{endpoint.address}:{endpoint.port}" for endpoint in facts.ready_endpoints]
    more = [f"and {len(ready) - SHOWN_ENDPOINTS} more"] if len(ready) > SHOWN_ENDPOINTS else []
    ready_text = f"{len(ready)} of {total} ready endpoints"
    return replace(_more(planned, ready_text, *ready[:SHOWN_ENDPOINTS], *more), missing=not ready)


def _clients(planned: Part, facts: ClusterFacts) -> Part:
    ingress = facts.ingress
    clients = facts.pods_of(names.CLIENT_NAMESPACE, app=names.CLIENT_POD)
    lines = [f"client {pod.address}" for pod in clients[:1]]
    if facts.cluster.spec.ingress is None:
        return _more(planned, *lines)
    if ingress is None or not ingress.addresses:
        return replace(_more(planned, "no external address", *lines), missing=True)
    return _more(planned, f"{', '.join(ingress.addresses)} {_shown(ingress.port_numbers)}", *lines)


def with_results(picture: Picture, results: Iterable[Proof]) -> Picture:
    """Add the results of claims; planned claims without a result stay without one."""
    by_code = {proof.code: proof for proof in results}
    planned = [by_code.pop(proof.code, proof) for proof in picture.proofs]
    return replace(picture, proofs=tuple(sorted((*planned, *by_code.values()), key=_order)))


def _order(proof: Proof) -> tuple[int, str]:
    family = proof.code.partition("-")[0]
    return (FAMILIES.index(family) if family in FAMILIES else len(FAMILIES), proof.code)


def proof_of(result: ClaimResult) -> Proof:
    """A result of this run as a proof."""
    return Proof(code=result.code, result=result.result, text=result.reason or result.sentence)
