"""Trust domains, clocks, and istiod's certificates."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from meshproof.claims.claim import claim
from meshproof.claims.findings import Findings
from meshproof.core.concurrency import together
from meshproof.mesh.handles import Cluster
from meshproof.pki.verify import dns_names, subject
from meshproof.probes.clock_skew import Skew, node_skew, server_skew
from meshproof.probes.tls import Hello, TlsAnswer, tls_from_pod
from meshproof.run.claim_context import ClaimContext
from meshproof.trust.clocks import clock_problems
from meshproof.trust.istiod_certificates import istiod_targets, serving_problems
from meshproof.trust.trust_domains import domain_problems, domains_in_use


@claim(
    "TRUST-07",
    "all control planes share one trust domain, or list each other's as aliases",
    promised_by="istio.io, Trust domain migration: trustDomain and trustDomainAliases of the mesh configuration",
    hint="set the same meshConfig.trustDomain everywhere, or name the other in trustDomainAliases of both",
    settings="trustDomainAliases: different domains that accept each other",
)
def test_trust_domains_agree(context: ClaimContext) -> None:
    """Queried from every running istiod: its ConfigMap may differ from what it uses."""
    known = domains_in_use(context.snapshot)
    context.evidence.attach("trust-domains", {who: str(found) for who, found in known.items()})
    findings = Findings("control planes")
    for who, problems in domain_problems(known, context.snapshot.mesh.topology.trust_domain).items():
        findings.examine(who, problems)
    findings.conclude()


@claim(
    "TRUST-08",
    "the clocks of API servers, nodes and the runner agree",
    promised_by="RFC 5280, 4.1.2.5 and RFC 7519, 4.1.4: certificates and tokens are judged by the clock of who reads",
    hint="look at time synchronisation (chronyc tracking, timedatectl) on the machine whose clock is off",
)
def test_clocks_agree(context: ClaimContext) -> None:
    """By a slow clock new certificates are not yet valid; by a fast one valid certificates have expired."""
    readings: dict[str, Callable[[], Skew]] = {}
    for cluster in context.mesh.clusters:
        readings[f"API server of {cluster}"] = partial(server_skew, cluster.kube)
        readings[f"node of {cluster}"] = partial(node_skew, cluster.kube, context.snapshot.of(cluster).outside)
    clocks = dict(zip(readings, together(lambda read: read(), readings.values()), strict=True))
    context.evidence.attach("clocks", {name: str(skew) for name, skew in clocks.items()})
    findings = Findings("clocks")
    for name, problems in clock_problems(clocks).items():
        findings.examine(name, problems)
    findings.conclude()


@claim(
    "TRUST-09",
    "in every cluster istiod's certificates chain to the mesh root and match the name that clients dial",
    promised_by="istio.io, Plug in CA Certificates; Kubernetes, WebhookClientConfig; pilot/pkg/bootstrap, getDNSNames",
    hint="does that name lead to the right istiod in that cluster? (in a remote: Service and EndpointSlice istiod in "
    "istio-system, made from remotePilotAddress); restart istiod if it still has an old certificate",
    settings="PILOT_CERT_PROVIDER, own certificates for istiod: must chain to the mesh root",
)
def test_istiod_certificates_match_the_dialled_name(context: ClaimContext) -> None:
    """Proxies and API servers verify the name that they dial, in a remote as in a primary. Covers the xDS and the
    webhook port."""
    findings = Findings("istiod's ports")
    wanted = [(c, *target) for c in context.mesh.clusters for target in sorted(istiod_targets(c))]

    def handshake(item: tuple[Cluster, str, int]) -> TlsAnswer:
        cluster, host, port = item
        hello = Hello(address=host, port=port, sni=host, alpn="h2")
        return tls_from_pod(cluster.kube, context.snapshot.of(cluster).outside, (hello,))[0]

    for (cluster, host, port), answer in zip(wanted, together(handshake, wanted), strict=True):
        roots = context.snapshot.issuer_of(cluster).roots
        findings.examine(f"{host}:{port} in {cluster}", serving_problems(answer, host, roots, context.now))
        shown = [f"{subject(cert)} {', '.join(dns_names(cert))}" for cert in answer.chain]
        context.evidence.attach(f"{cluster}-{port}", "\n".join(shown) or str(answer))
    findings.conclude()
