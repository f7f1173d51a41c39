"""Ports 15012 and 15017 of an east-west gateway, behind which is istiod."""

from __future__ import annotations

import json

from meshproof.core import names
from meshproof.mesh.handles import Cluster
from meshproof.mesh.snapshot import Snapshot
from meshproof.mesh.webhooks import Webhook
from meshproof.probes.istiod_api import EMPTY_MESSAGE, SERVICES, IstiodReply, call_istiod, review, token_of

NO_TOKEN = "no token"
BAD_TOKEN = "a made-up token"
VALID_TOKEN = "its pod's token"


def call_xds_port(snapshot: Snapshot, remote: Cluster, address: str, service: str, caller: str) -> IstiodReply:
    """Call a `service` of istiod behind `address` from a remote's outside pod, as NO_TOKEN, BAD_TOKEN or
    VALID_TOKEN."""
    facts = snapshot.of(remote)
    headers = {"clusterid": str(remote.name)}  # by which istiod selects the API server that verifies the token
    if caller != NO_TOKEN:
        token = token_of(remote.kube, facts.client) if caller == VALID_TOKEN else "made.up.token"
        headers["authorization"] = f"Bearer {token}"
    # Without a message certificate signing does not check the caller, and istiod 1.30 does not answer an accepted xDS
    # client. A rejected xDS client sends none: the rejection arrives while curl still sends, which is its error 92.
    sends_message = service == "certificate signing" or caller == VALID_TOKEN
    return call_istiod(
        remote.kube,
        facts.outside,
        host=f"{remote.spec.istiod}.{names.SYSTEM_NAMESPACE}.svc",
        port=names.PORT_XDS,
        target=(address, names.PORT_XDS),
        path=SERVICES[service],
        ca=facts.root_maps[names.CLIENT_NAMESPACE],
        headers=headers,
        message=EMPTY_MESSAGE if sends_message else None,
    )


def token_problems(caller: str, call: IstiodReply) -> list[str]:
    """What is wrong with the answer to that caller: with a valid token an empty request fails for another reason."""
    if call.error:
        return [str(call)]
    if caller == VALID_TOKEN:
        return [] if call.let_in else [f"positive control failed: a client with a valid token was rejected ({call})"]
    return [] if call.refused else [f"was not rejected ({call})"]


def call_webhook_port(snapshot: Snapshot, remote: Cluster, hook: Webhook, address: str, ca: str) -> IstiodReply:
    """Call the webhook behind `address` as the remote's API server would, trusting `ca`."""
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


def review_problems(call: IstiodReply) -> list[str]:
    """Why a response is not an injection; empty if it is."""
    if call.error or call.http != 200:
        return [str(call)]
    try:
        response = json.loads(call.body).get("response") or {}
    except (ValueError, AttributeError):
        return [f"the response is not an admission review: {call.body[:100]!r}"]
    if not response.get("allowed"):
        return [f"denied: {(response.get('status') or {}).get('message', 'without a reason')}"]
    return [] if response.get("patch") else ["the response has no patch: the pod would start without a sidecar"]
