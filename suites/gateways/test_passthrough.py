"""Port 15443: what it passes through untouched, and what it refuses."""

from __future__ import annotations

from typing import Final

from meshproof.claims.claim import ACROSS_NETWORKS, claim
from meshproof.claims.evidence import Evidence
from meshproof.claims.findings import Findings
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.errors import ClaimFailed
from meshproof.gateways.paths import meet, meet_saying
from meshproof.mesh.handles import Mesh
from meshproof.mesh.snapshot import Snapshot
from meshproof.pki.verify import spiffe_ids, subject
from meshproof.probes.http import plain_http_from_pod
from meshproof.probes.tls import APP_SNI, ISTIO_ALPN, sni_of

REFUSED: Final[dict[str, tuple[str | None, str | None]]] = {
    "a service that does not exist": (sni_of("nobody", names.APP_NAMESPACE, names.APP_PORT), ISTIO_ALPN),
    "a port that the service does not have": (sni_of(names.APP_SERVICE, names.APP_NAMESPACE, 81), ISTIO_ALPN),
    "a host outside the exposed set": ("outbound_.443_._.example.com", ISTIO_ALPN),
    "a plain host name": (names.APP_HOST, ISTIO_ALPN),
    "no server name": (None, ISTIO_ALPN),
    "ALPN h2": (APP_SNI, "h2"),
    "ALPN http/1.1": (APP_SNI, "http/1.1"),
    "no ALPN": (APP_SNI, None),
}
"""Handshakes that must come to nothing: what differs from the right one -> server name and ALPN."""


@claim(
    "GATEWAYS-02",
    "15443 passes TLS through untouched: the workload's own certificate answers, and a client certificate is asked for",
    promised_by="istio.io, Gateway, TLSmode AUTO_PASSTHROUGH",
    hint="reset: apply the cross-network Gateway (samples/multicluster/expose-services.yaml) in the config cluster; "
    "another certificate: the Gateway terminates TLS",
    needs=ACROSS_NETWORKS,
)
def test_15443_passes_tls_through(mesh: Mesh, snapshot: Snapshot) -> None:
    """The gateway holds no key for the workloads behind it, so their identity must reach the caller end to end."""
    findings = Findings("gateways")
    pairs = list(mesh.pairs_across_networks)
    prefix = f"spiffe://{mesh.topology.trust_domain}/ns/{names.APP_NAMESPACE}/"
    for (client, server), met in zip(pairs, together(lambda pair: meet(snapshot, *pair), pairs), strict=True):
        findings.examine(f"{client} to {server}", [] if met else ["the gateway has no external address"])
        for (address, port), answer in met.items():
            problems = [] if answer.completed else [str(answer)]
            for leaf in answer.chain[:1]:
                problems += [] if any(i.startswith(prefix) for i in spiffe_ids(leaf)) else [f"shows {subject(leaf)}"]
                problems += [] if answer.asks_client else ["it does not ask for a client certificate"]
            findings.examine(f"{client} to {server} at {address}:{port}", problems)
    findings.conclude()


@claim(
    "GATEWAYS-03",
    "15443 refuses unknown and missing server names, hosts outside the exposed set, foreign ALPN, and plain HTTP",
    promised_by="istio.io, Gateway, AUTO_PASSTHROUGH; pilot/pkg/networking/core, filter chains match Istio's ALPN only",
    hint="look for another Gateway on port 15443 of the east-west gateway: kubectl get gateways -A",
    needs=ACROSS_NETWORKS,
)
def test_15443_refuses_everything_else(mesh: Mesh, snapshot: Snapshot, evidence: Evidence) -> None:
    """Refusals count only while the right handshake is accepted: before and after them."""
    findings = Findings("attempts")
    pairs = list(mesh.pairs_across_networks)
    must_accept(snapshot, mesh)
    refused = together(lambda pair: meet_saying(snapshot, *pair, tuple(REFUSED.values())), pairs)
    plain = [
        (
            client,
            server,
            address,
            plain_http_from_pod(client.kube, snapshot.of(client).outside, address, names.PORT_SERVICES),
        )
        for client, server in pairs
        for address in snapshot.of(server).gateway_addresses
    ]
    must_accept(snapshot, mesh)
    for (client, server), answers in zip(pairs, refused, strict=True):
        for what, met in zip(REFUSED, answers, strict=True):
            for (address, port), answer in met.items():
                problems = [str(answer)] if answer.completed else []
                findings.examine(f"{client} to {server} at {address}:{port} with {what}", problems)
                evidence.attach(f"{client}-{server}-{what.replace('/', '-').replace(' ', '-')}", str(answer))
    for client, server, address, reply in plain:
        problems = [f"answers HTTP {reply.status}"] if reply.status else []
        findings.examine(f"{client} to {server} at {address}:{names.PORT_SERVICES} with plain HTTP", problems)
    findings.conclude()


def must_accept(snapshot: Snapshot, mesh: Mesh) -> None:
    """The positive control. Raises `ClaimFailed` if the right handshake is refused as well."""
    pairs = list(mesh.pairs_across_networks)
    for (client, server), met in zip(pairs, together(lambda pair: meet(snapshot, *pair), pairs), strict=True):
        if not met or not all(answer.completed for answer in met.values()):
            seen = "; ".join(str(answer) for answer in met.values()) or "no external address"
            raise ClaimFailed(
                f"{client} to {server}: the right handshake is refused as well, so refusals prove nothing\n"
                f"  last seen   {seen}"
            )
