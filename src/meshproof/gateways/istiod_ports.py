"""Ports 15012 and 15017 of an east-west gateway, behind which is istiod."""

from __future__ import annotations

from meshproof.core import names
from meshproof.mesh.handles import Cluster
from meshproof.mesh.snapshot import Snapshot
from meshproof.mesh.webhooks import Webhook
from meshproof.probes.istiod_api import SERVICES, IstiodReply, call_istiod, review, token_of

NO_TOKEN = "no token"
BAD_TOKEN = "a made-up token"
PROPER = "its pod's token"


def call_xds_port(snapshot: Snapshot, remote: Cluster, address: str, service: str, caller: str) -> IstiodReply:
    """Call a `service` of istiod behind `address` from a remote's outside pod, as NO_TOKEN, BAD_TOKEN or PROPER."""
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


def token_problems(caller: str, call: IstiodReply) -> list[str]:
    """Whether the answer is right for that caller: an empty request by a known one fails for another reason."""
    if call.error:
        return [str(call)]
    if caller == PROPER:
        return [] if call.let_in else [f"{call}: the proper caller is refused as well, so refusals prove nothing"]
    return [] if call.refused else [f"it was not refused ({call})"]


def call_webhook_port(snapshot: Snapshot, remote: Cluster, hook: Webhook, address: str, ca: str) -> IstiodReply:
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
