"""Plug-in CAs, and their common root."""

from __future__ import annotations

from meshproof.claims.claim import claim
from meshproof.claims.findings import Findings
from meshproof.core.deadlines import HORIZONS
from meshproof.pki.verify import check_ca_bundle
from meshproof.run.claim_context import ClaimContext
from meshproof.trust.roots import roots_by_place


@claim(
    "TRUST-01",
    "each cluster's plug-in CA verifies offline",
    promised_by="istio.io, Plug in CA Certificates; RFC 5280, 6.1",
    hint="recreate secret istio-system/cacerts with an intermediate that its root signed, then restart istiod",
)
def test_each_plugin_ca_verifies_offline(context: ClaimContext) -> None:
    """istiod reads broken files without complaint and fails later, at the first handshake."""
    now = context.now
    findings = Findings("plug-in CAs")
    for facts in context.snapshot.facts:
        files = facts.ca_files().files
        findings.examine(f"{facts.cluster} istio-system/cacerts", check_ca_bundle(files, now, HORIZONS.authority))
    findings.conclude()


@claim(
    "TRUST-02",
    "every cacerts, injected namespace and live proxy has the same root certificate",
    promised_by="istio.io, Install Multicluster, Before you begin: a common root makes clusters trust each other",
    hint="sign the deviating cluster's intermediate with the common root, replace its cacerts, restart istiod and pods",
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
