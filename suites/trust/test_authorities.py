"""Plug-in CAs, and their common root."""

from __future__ import annotations

from meshproof.claims.claim import claim
from meshproof.claims.findings import Findings
from meshproof.core.deadlines import HORIZONS
from meshproof.mesh.ca_files import ExternalCa
from meshproof.run.claim_context import ClaimContext
from meshproof.trust.roots import roots_by_place


@claim(
    "TRUST-01",
    "the CA of each control plane verifies offline, in the form in which its istiod reads it",
    promised_by="istio.io, Plug in CA Certificates; RFC 5280, 6.1",
    hint="recreate the secret with an intermediate that its root signed, then restart istiod; of an external CA: look "
    "at its signer, and at caCertificates of the mesh configuration",
    settings="files of cacerts (`ca-cert.pem` or `tls.crt`), `istio-ca-secret`, EXTERNAL_CA, "
    "ENABLE_CA_SERVER=false: what is verified",
)
def test_each_ca_verifies_offline(context: ClaimContext) -> None:
    """istiod reads broken files without complaint and fails later, at the first handshake.

    A plug-in CA of a remote, where no istiod reads it, must verify as well. An external CA has no files: the
    certificates above those of workloads are verified, and its root.
    """
    snapshot, now = context.snapshot, context.now
    findings = Findings("CAs")
    for primary in context.mesh.primaries:
        ca = snapshot.issuer_of(primary)
        findings.examine(f"{primary} {ca.form}", ca.problems(now, HORIZONS.authority))
        for soon in ca.expiring(now, HORIZONS.authority) if isinstance(ca, ExternalCa) else ():
            findings.advise(f"{primary}: {soon}; does its signer renew it?")
    for remote, unused in snapshot.unused_ca.items():
        findings.examine(f"{remote} {unused.form}", unused.problems(now, HORIZONS.authority))
    findings.conclude()


@claim(
    "TRUST-02",
    "every CA, injected namespace and live proxy has the same root certificates",
    promised_by="istio.io, Install Multicluster, Before you begin: a common root makes clusters trust each other",
    hint="sign the deviating cluster's intermediate with the common root, replace its cacerts, restart istiod and "
    "pods; two self-signed CAs (istio-ca-secret) never trust each other; with an external CA PILOT_CERT_PROVIDER must "
    "be its signer",
    settings="as TRUST-01; roots that differ by design (caCertificates with ISTIO_MULTIROOT_MESH): red",
)
def test_all_roots_are_the_same(context: ClaimContext) -> None:
    """A second root shows as TLS errors on the remote share only, which retries hide."""
    roots = roots_by_place(context.snapshot)
    context.evidence.attach("roots", {place: sorted(prints) for place, prints in roots.items()})
    first, wanted = next(iter(roots.items()))
    findings = Findings("places with root certificates")
    for place, prints in roots.items():
        shown = ", ".join(sorted(prints)) or "nothing"
        findings.examine(place, [] if prints == wanted else [f"has {shown}, unlike {first}"])
    findings.conclude()
