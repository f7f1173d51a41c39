"""Port 15443: what it passes through untouched, and what it refuses."""

from __future__ import annotations

from meshproof.claims.claim import ACROSS_NETWORKS, claim
from meshproof.claims.findings import Findings
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.gateways.handshakes import handshakes_offering, mesh_handshakes
from meshproof.gateways.passthrough import REFUSED, must_accept, passthrough_problems, plain_http_replies
from meshproof.run.claim_context import ClaimContext
from meshproof.trust.trust_domains import domain_of_each


@claim(
    "GATEWAYS-02",
    "port 15443 passes TLS through to the workload, which presents its certificate and requests the client's",
    promised_by="istio.io, Gateway, TLSmode AUTO_PASSTHROUGH",
    hint="reset: apply the cross-network Gateway (samples/multicluster/expose-services.yaml) in the config cluster; "
    "another certificate: the Gateway terminates TLS",
    needs=ACROSS_NETWORKS,
    settings="trustDomain, trustDomainAliases: the SPIFFE ID; gateways as in DISCOVERY-02",
)
def test_15443_passes_tls_through(context: ClaimContext) -> None:
    """The gateway has no keys of the workloads behind it, so their identity must reach the client end to end."""
    findings = Findings("gateways")
    pairs = list(context.mesh.pairs_across_networks)
    domains = domain_of_each(context.snapshot)
    for (client, server), met in zip(
        pairs, together(lambda pair: mesh_handshakes(context.snapshot, *pair), pairs), strict=True
    ):
        findings.examine(f"{client} to {server}", [] if met else ["the gateway has no external address"])
        prefix = f"spiffe://{domains[server.name]}/ns/{names.APP_NAMESPACE}/"
        for (address, port), answer in met.items():
            findings.examine(f"{client} to {server} at {address}:{port}", passthrough_problems(answer, prefix))
    findings.conclude()


@claim(
    "GATEWAYS-03",
    "port 15443 rejects unknown or missing SNI, unexposed hosts, foreign ALPN, and plain HTTP",
    promised_by="istio.io, Gateway, AUTO_PASSTHROUGH; pilot/pkg/networking/core, filter chains match Istio's ALPN only",
    hint="look for another Gateway on port 15443 of the east-west gateway: kubectl get gateways -A",
    needs=ACROSS_NETWORKS,
    settings="gateways as in DISCOVERY-02",
)
def test_15443_rejects_everything_else(context: ClaimContext) -> None:
    """Rejections count only while the right handshake, the positive control, is accepted before and after them."""
    mesh, snapshot = context.mesh, context.snapshot
    findings = Findings("attempts")
    pairs = list(mesh.pairs_across_networks)
    must_accept(snapshot, mesh)
    refused = together(lambda pair: handshakes_offering(snapshot, *pair, tuple(REFUSED.values())), pairs)
    plain = [(*pair, plain_http_replies(snapshot, *pair)) for pair in pairs]
    must_accept(snapshot, mesh)
    for (client, server), answers in zip(pairs, refused, strict=True):
        for what, met in zip(REFUSED, answers, strict=True):
            for (address, port), answer in met.items():
                problems = [str(answer)] if answer.completed else []
                findings.examine(f"{client} to {server} at {address}:{port} with {what}", problems)
                context.evidence.attach(f"{client}-{server}-{what.replace('/', '-').replace(' ', '-')}", str(answer))
    for client, server, replies in plain:
        for (address, port), reply in replies.items():
            problems = [f"answers HTTP {reply.status}"] if reply.status else []
            findings.examine(f"{client} to {server} at {address}:{port} with plain HTTP", problems)
    findings.conclude()
