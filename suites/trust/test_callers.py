"""Which clients workloads accept."""

from __future__ import annotations

from meshproof.claims.claim import claim
from meshproof.claims.findings import Findings
from meshproof.core.concurrency import together
from meshproof.run.claim_context import ClaimContext
from meshproof.trust.refused_clients import caller_problems, callers_of, not_tried, try_each_caller
from meshproof.trust.trust_domains import domain_of_each


@claim(
    "TRUST-06",
    "workloads reject clients from other clusters whose certificate is missing, expired, or of another root or trust "
    "domain",
    promised_by="istio.io, Security, Mutual TLS authentication; pilot/pkg/security/model, trust domains are verified",
    hint="the valid client is rejected: compare the roots (TRUST-02); an invalid one is served: look for a "
    "PeerAuthentication that disables mutual TLS, and for PILOT_SKIP_VALIDATE_TRUST_DOMAIN",
    credentials="certificates signed with the key of the mesh's CA, or issued by the mesh to a service account",
    settings="EXTERNAL_CA: expired certificates and other trust domains are not tried; "
    "PILOT_SKIP_VALIDATE_TRUST_DOMAIN=true: red",
)
def test_clients_without_a_valid_certificate_are_rejected(context: ClaimContext) -> None:
    """Each client differs in one thing only from a valid one, the positive control, which must be served before and
    after. Without the key of an external CA nobody else can sign what is expired or of another trust domain."""
    snapshot, clusters = context.snapshot, context.mesh.clusters
    findings = Findings("clients")
    findings.skip(not_tried(snapshot))
    domains = domain_of_each(snapshot)
    made = together(lambda client: callers_of(snapshot, client, domains[client.name]), clusters)
    who = {client.name: found for client, found in zip(clusters, made, strict=True)}
    pairs = list(context.mesh.pairs)
    tried = together(lambda pair: try_each_caller(snapshot, *pair, who[pair[0].name]), pairs)
    for (client, server), replies in zip(pairs, tried, strict=True):
        if not replies:
            findings.examine(f"{client} to {server}", ["no address to dial"])
        for attempt, reply in replies:
            whence = f"{client} to {server} at {attempt.address}:{attempt.port} with {attempt.caller}"
            findings.examine(whence, caller_problems(attempt.caller, reply))
        context.evidence.attach(f"{client}-{server}", "\n".join(f"{a.caller}: {reply}" for a, reply in replies))
    findings.conclude()
