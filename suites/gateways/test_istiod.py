"""Ports 15012 and 15017: how remotes reach their control plane."""

from __future__ import annotations

from functools import partial

from meshproof.claims.claim import REMOTES, claim
from meshproof.claims.evidence import Evidence
from meshproof.claims.findings import Findings
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.snapshot import Snapshot
from meshproof.mesh.webhooks import Webhook, injection_webhooks
from meshproof.pki.issue import make_root, pem_of
from meshproof.probes.istiod_api import SERVICES, Call, call_istiod, review, review_problems, token_of

NO_TOKEN = "no token"
BAD_TOKEN = "a made-up token"
PROPER = "its pod's token"


@claim(
    "GATEWAYS-04",
    "15012 passes through to istiod, whose certificate chains to the mesh root; xDS and certificate signing refuse "
    "callers without a valid token",
    promised_by="istio.io, Install Primary-Remote, expose the control plane; Security: istiod authenticates by token",
    hint="no answer: Gateway istiod-gateway and VirtualService istiod-vs in the primary; let in without a token: "
    "XDS_AUTH must not be false on istiod",
    needs=REMOTES,
    credentials="a token of a service account",
)
def test_15012_wants_a_token(mesh: Mesh, snapshot: Snapshot, evidence: Evidence) -> None:
    """The whole internet may reach this port. Callers verify istiod's certificate and name, as proxies do."""
    findings = Findings("calls")
    wanted = [
        (remote, address, service, caller)
        for remote in mesh.remotes
        for address in snapshot.of(mesh.control_plane_of(remote)).gateway_addresses
        for service in SERVICES
        for caller in (NO_TOKEN, BAD_TOKEN, PROPER)
    ]
    for remote in mesh.remotes:
        primary = snapshot.of(mesh.control_plane_of(remote))
        findings.examine(
            f"{primary.cluster} for {remote}", [] if primary.gateway_addresses else ["no external address"]
        )
    calls = together(lambda item: _call(snapshot, *item), wanted)
    for (remote, address, service, caller), call in zip(wanted, calls, strict=True):
        who = f"{service} at {address}:{names.PORT_XDS} from {remote} with {caller}"
        findings.examine(who, token_problems(caller, call))
    evidence.attach("calls", {f"{r} {a} {s} {who}": str(c) for (r, a, s, who), c in zip(wanted, calls, strict=True)})
    findings.conclude()


def _call(snapshot: Snapshot, remote: Cluster, address: str, service: str, caller: str) -> Call:
    facts = snapshot.of(remote)
    headers = {"clusterid": str(remote.name)}  # tells istiod whose API server knows the token
    if caller != NO_TOKEN:
        token = token_of(remote.kube, facts.client) if caller == PROPER else "made.up.token"
        headers["authorization"] = f"Bearer {token}"
    # Without a message signing does not look at the caller, and istiod 1.30 does not answer one whom it lets in to xDS.
    # Who is refused there sends none: the refusal comes while curl still sends, which it takes for an error (code 92).
    speaks = service == "certificate signing" or caller == PROPER
    return call_istiod(
        remote.kube,
        facts.outside,
        host=f"{remote.spec.istiod}.{names.SYSTEM_NAMESPACE}.svc",
        port=names.PORT_XDS,
        target=(address, names.PORT_XDS),
        path=SERVICES[service],
        ca=facts.root_maps[names.CLIENT_NAMESPACE],
        headers=headers,
        empty_message=speaks,
    )


def token_problems(caller: str, call: Call) -> list[str]:
    """Whether the answer is right for that caller: an empty request by a known one fails for another reason."""
    if call.error:
        return [str(call)]
    if caller == PROPER:
        return [] if call.let_in else [f"{call}: the proper caller is refused as well, so refusals prove nothing"]
    return [] if call.refused else [f"it was not refused ({call})"]


@claim(
    "GATEWAYS-05",
    "15017 passes through to the injection webhook: what is served there verifies against the remote's caBundle, and "
    "injects",
    promised_by="istio.io, Install Primary-Remote, expose the control plane; Kubernetes, WebhookClientConfig.caBundle",
    hint="no answer: is port 15017 on the east-west Service, in istiod-gateway and in istiod-vs? not verified: istiod "
    "patches the caBundle, may it (DISCOVERY-04)?",
    needs=REMOTES,
)
def test_15017_is_the_webhook(mesh: Mesh, snapshot: Snapshot, evidence: Evidence) -> None:
    """Running pods go on without it, new ones are refused. A root of our own must not verify it: the control."""
    findings = Findings("webhooks")
    stranger = pem_of(make_root().cert).decode()
    for remote in mesh.remotes:
        addresses = snapshot.of(mesh.control_plane_of(remote)).gateway_addresses
        hooks = injection_webhooks(remote.kube)
        if not hooks or not addresses:
            findings.examine(f"{remote}", ["no injection webhook, or no external address of its control plane"])
        for hook, address in [(hook, address) for hook in hooks for address in addresses]:
            problems = ["it has no caBundle"] if not hook.ca else []
            asked = together(partial(_review, snapshot, remote, hook, address), [hook.ca or stranger, stranger])
            problems += review_problems(asked[0]) if hook.ca else []
            if not problems and "certificate" not in asked[1].error:
                problems = [f"a root of our own verifies it as well, so this proves nothing ({asked[1]})"]
            findings.examine(f"{hook} at {address}:{names.PORT_WEBHOOK} from {remote}", problems)
            evidence.attach(f"{remote}-{address}", [str(call) for call in asked])
    findings.conclude()


def _review(snapshot: Snapshot, remote: Cluster, hook: Webhook, address: str, ca: str) -> Call:
    """Ask the webhook behind `address` as the remote's API server would, trusting `ca`."""
    return call_istiod(
        remote.kube,
        snapshot.of(remote).outside,
        host=hook.host,
        port=hook.port,
        target=(address, names.PORT_WEBHOOK),
        path=hook.path,
        ca=ca,
        headers={},
        body=review(names.CLIENT_NAMESPACE),
    )
