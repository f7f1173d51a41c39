"""Ports 15012 and 15017, by which remotes reach their control plane."""

from __future__ import annotations

from functools import partial

from meshproof.claims.claim import REMOTES, claim
from meshproof.claims.findings import Findings
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.gateways.istiod_ports import (
    BAD_TOKEN,
    NO_TOKEN,
    VALID_TOKEN,
    call_webhook_port,
    call_xds_port,
    review_problems,
    token_problems,
)
from meshproof.mesh.webhooks import injection_webhooks
from meshproof.pki.issue import make_root, pem_of
from meshproof.probes.istiod_api import SERVICES
from meshproof.run.claim_context import ClaimContext


@claim(
    "GATEWAYS-04",
    "port 15012 leads to istiod, which rejects clients without a valid token",
    promised_by="istio.io, Install Primary-Remote, expose the control plane; Security: istiod authenticates by token",
    hint="no answer: Gateway istiod-gateway and VirtualService istiod-vs in the primary; accepted without a token: "
    "XDS_AUTH must not be false on istiod",
    needs=REMOTES,
    credentials="a token of a service account",
    settings="XDS_AUTH=false: red",
)
def test_15012_requires_a_token(context: ClaimContext) -> None:
    """The whole internet may reach this port. Covers xDS and certificate signing.

    The probe verifies that istiod's certificate has the right name and chains to the mesh root, as proxies do.
    """
    mesh, snapshot, evidence = context.mesh, context.snapshot, context.evidence
    findings = Findings("calls")
    wanted = [
        (remote, address, service, caller)
        for remote in mesh.remotes
        for address in snapshot.of(mesh.control_plane_of(remote)).gateway_addresses
        for service in SERVICES
        for caller in (NO_TOKEN, BAD_TOKEN, VALID_TOKEN)
    ]
    for remote in mesh.remotes:
        primary = snapshot.of(mesh.control_plane_of(remote))
        findings.examine(
            f"{primary.cluster} for {remote}", [] if primary.gateway_addresses else ["no external address"]
        )
    calls = together(lambda item: call_xds_port(snapshot, *item), wanted)
    for (remote, address, service, caller), call in zip(wanted, calls, strict=True):
        who = f"{service} at {address}:{names.PORT_XDS} from {remote} with {caller}"
        findings.examine(who, token_problems(caller, call))
    evidence.attach("calls", {f"{r} {a} {s} {who}": str(c) for (r, a, s, who), c in zip(wanted, calls, strict=True)})
    findings.conclude()


@claim(
    "GATEWAYS-05",
    "port 15017 leads to the injection webhook, which injects and verifies against the remote's caBundle",
    promised_by="istio.io, Install Primary-Remote, expose the control plane; Kubernetes, WebhookClientConfig.caBundle",
    hint="no answer: is port 15017 on the east-west Service, in istiod-gateway and in istiod-vs? not verified: istiod "
    "patches the caBundle, does it have the right to (DISCOVERY-04)?",
    needs=REMOTES,
)
def test_15017_leads_to_the_webhook(context: ClaimContext) -> None:
    """Without it running pods continue, but new ones are refused. Negative control: a root made for this test must
    not verify it."""
    findings = Findings("webhooks")
    foreign_root = pem_of(make_root().cert).decode()
    for remote in context.mesh.remotes:
        addresses = context.snapshot.of(context.mesh.control_plane_of(remote)).gateway_addresses
        hooks = injection_webhooks(remote.kube)
        if not hooks or not addresses:
            findings.examine(f"{remote}", ["no injection webhook, or no external address of its control plane"])
        for hook, address in [(hook, address) for hook in hooks for address in addresses]:
            problems = ["it has no caBundle"] if not hook.ca else []
            calls = together(
                partial(call_webhook_port, context.snapshot, remote, hook, address),
                [hook.ca or foreign_root, foreign_root],
            )
            problems += review_problems(calls[0]) if hook.ca else []
            if not problems and "certificate" not in calls[1].error:
                problems = [f"negative control failed: a root made for this test verifies it as well ({calls[1]})"]
            findings.examine(f"{hook} at {address}:{names.PORT_WEBHOOK} from {remote}", problems)
            context.evidence.attach(f"{remote}-{address}", [str(call) for call in calls])
    findings.conclude()
