"""Certificates of live workloads, and those that clients in other clusters receive."""

from __future__ import annotations

from meshproof.claims.claim import claim
from meshproof.claims.findings import Findings
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.discovery.endpoints import app_endpoints
from meshproof.gateways.handshakes import mesh_handshakes
from meshproof.mesh.ca_files import ExternalCa
from meshproof.pki.verify import parse_chain
from meshproof.run.claim_context import ClaimContext
from meshproof.trust.trust_domains import domain_of_each
from meshproof.trust.workload_certificates import certificate_summary, longest_life, presented_problems, svid_problems


@claim(
    "TRUST-03",
    "every live workload's certificate is issued by the CA of its own control plane",
    promised_by="istio.io, Plug in CA Certificates: istiod signs with the key in cacerts; Custom CA Integration using "
    "Kubernetes CSR",
    hint="was cacerts created after istiod started? restart istiod, then the pods that still have the old certificates",
    settings="as TRUST-01: the CA, or for an external one the chain that is presented",
)
def test_workloads_are_signed_by_the_plugin_ca(context: ClaimContext) -> None:
    """An istiod that started before cacerts signs with a CA of its own, which goes unnoticed within one cluster.

    What an external CA issued must chain to the root that istiod publishes, by the chain that the workload presents.
    """
    snapshot = context.snapshot
    findings = Findings("workload certificates")
    issuers = {cluster.name: snapshot.issuer_of(cluster) for cluster in context.mesh.clusters}
    for cluster, pod, identity in snapshot.identities():
        ca = issuers[cluster.name]
        problems = ca.leaf_problems(identity.leaf, identity.chain[1:], context.now)
        findings.examine(f"{cluster} {pod}, by {ca.form}", problems)
    context.evidence.attach(
        "issuers", {f"{c} {pod}": identity.leaf.issuer.rfc4514_string() for c, pod, identity in snapshot.identities()}
    )
    findings.conclude()


@claim(
    "TRUST-04",
    "every live workload's certificate has exactly its pod's SPIFFE ID, both TLS usages, and a bounded lifetime",
    promised_by="SPIFFE X.509-SVID, 2 and 4; istio.io, Security, Identity",
    hint="compare trust domain and service account; a wrong lifetime comes from DEFAULT_WORKLOAD_CERT_TTL",
    settings="trustDomain, trustDomainAliases: the SPIFFE ID; DEFAULT_WORKLOAD_CERT_TTL, SECRET_TTL, EXTERNAL_CA: "
    "the longest lifetime, up to 90 days",
)
def test_workload_certificates_identify_their_workload(context: ClaimContext) -> None:
    """Policies match on the SPIFFE ID: a wrong one denies, or allows, the wrong workload. The trust domain is that of
    the workload's control plane, where all others have it for an alias (TRUST-07)."""
    snapshot, domains = context.snapshot, domain_of_each(context.snapshot)
    findings = Findings("workload certificates")
    authorities = {cluster.name: snapshot.issuer_of(cluster) for cluster in context.mesh.clusters}
    for cluster, pod, identity in snapshot.identities():
        ca, istiods = authorities[cluster.name], snapshot.of(context.mesh.control_plane_of(cluster)).istiods
        env = istiods[0].istiod_env if istiods else {}
        longest = longest_life(env, pod.proxy_env or {}, external=isinstance(ca, ExternalCa))
        spiffe_id = f"spiffe://{domains[cluster.name]}/ns/{pod.namespace}/sa/{pod.account}"
        findings.examine(f"{cluster} {pod}", svid_problems(identity.leaf, spiffe_id, ca.issuers, longest))
    findings.conclude()


@claim(
    "TRUST-05",
    "a workload's own certificate reaches clients in every other cluster and verifies against their root",
    promised_by="istio.io, Deployment models: trust between clusters, and AUTO_PASSTHROUGH ending TLS at the workload",
    hint="compare the roots (TRUST-02); if the gateway presents its own certificate, its Gateway terminates TLS",
    settings="as TRUST-01; trustDomain, trustDomainAliases: the SPIFFE ID",
)
def test_workload_certificates_reach_other_clusters(context: ClaimContext) -> None:
    """A 200 can come from anywhere; the certificate shows which workload terminates TLS.

    The handshake takes the same path as requests. The certificate must be signed by the workload's own control plane,
    and verify against the client's own root.
    """
    mesh, snapshot, domains = context.mesh, context.snapshot, domain_of_each(context.snapshot)
    findings = Findings("paths")
    pairs = list(mesh.pairs)
    for (client, server), met in zip(
        pairs, together(lambda pair: mesh_handshakes(snapshot, *pair), pairs), strict=True
    ):
        known = {endpoint.key for endpoint in app_endpoints(client, snapshot.of(client).client)}
        roots = parse_chain(snapshot.of(client).root_maps[names.CLIENT_NAMESPACE])
        issuers = snapshot.issuer_of(server).issuers
        pods = snapshot.of(server).pods_of(names.APP_NAMESPACE, app=names.APP_SERVICE)
        accounts = {f"spiffe://{domains[server.name]}/ns/{pod.namespace}/sa/{pod.account}" for pod in pods}
        findings.examine(f"{client} to {server}", [] if met else ["no address to dial"])
        for (address, port), answer in met.items():
            problems = [] if f"{address}:{port}" in known else ["the client's proxy does not know this endpoint"]
            problems += presented_problems(answer, accounts, issuers, roots, context.now)
            findings.examine(f"{client} to {server} at {address}:{port}", problems)
            context.evidence.attach(
                f"{client}-{server}-{address}-{port}", [certificate_summary(cert) for cert in answer.chain]
            )
    findings.conclude()
