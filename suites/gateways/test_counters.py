"""The path that requests take between clusters."""

from __future__ import annotations

from meshproof.claims.claim import Isolation, claim
from meshproof.claims.findings import Findings
from meshproof.gateways.paths import follow, path_problems
from meshproof.run.claim_context import ClaimContext


@claim(
    "GATEWAYS-08",
    "requests to another network pass its east-west gateway, and requests on one network go directly to pods",
    promised_by="istio.io, Deployment models, Network models",
    hint="compare the endpoints of the client's proxy (DISCOVERY-02) with the counters in the evidence",
    isolation=Isolation.PUSHES_CONFIG,
    settings="locality load balancing, trafficDistribution: none, the requests are to services that only the far "
    "cluster has",
)
def test_requests_take_the_right_path(context: ClaimContext) -> None:
    """Versions that answer do not prove the path; proxies' counters do.

    The requests are to a service that only the far cluster has. The client's proxy must count as many requests to the
    far address as were answered. The far gateway cannot see single requests: it must forward bare handshakes, each a
    new connection, and on one network nothing.
    """
    mesh, snapshot, test_bed = context.mesh, context.snapshot, context.test_bed
    findings = Findings("paths")
    for client, server in mesh.pairs:
        count = follow(snapshot, test_bed, client, server)
        context.evidence.attach(f"{client}-{server}", {"sent to": dict(count.sent_to), "forwarded": count.forwarded})
        findings.examine(
            f"{client} to {server}", path_problems(count, server.name, crosses=mesh.crosses_network(client, server))
        )
    findings.conclude()
