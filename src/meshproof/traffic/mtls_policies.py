"""Mutual TLS to endpoints, and plain text to them."""

from __future__ import annotations

from collections.abc import Mapping

from meshproof.clients.envoy_admin import Security
from meshproof.core.deadlines import DEADLINES
from meshproof.mesh.handles import Cluster
from meshproof.mesh.snapshot import Snapshot
from meshproof.probes.http_batch import HttpCall, HttpReply, http_calls_from_pod
from meshproof.workloads.testbed.lifecycle import TestBed
from meshproof.workloads.testbed.names import LISTEN_HTTP, LISTEN_OPEN, service_of


def plain_problems(snapshot: Snapshot, test_bed: TestBed, client: Cluster, server: Cluster) -> list[str]:
    """What is wrong with replies to a pod outside the mesh, where it can reach the server, and to a mesh client."""
    pod, facts = test_bed.addresses[server.name], snapshot.of(client)
    crosses = snapshot.mesh.crosses_network(client, server)
    refusing = [f"{a}:{port}" for a, port in snapshot.of(server).service_gateways] if crosses else []
    refusing += [] if crosses else [f"{pod}:{LISTEN_HTTP}"]
    serving = [] if crosses else [f"{pod}:{LISTEN_OPEN}"]
    calls = [HttpCall(url=f"http://{target}/") for target in (*refusing, *serving)]
    plain = http_calls_from_pod(client.kube, facts.outside, calls, timeout_s=DEADLINES.connect_s)
    (meshed,) = http_calls_from_pod(client.kube, facts.client, [HttpCall(url=test_bed.url(service_of(server)))])
    return strict_problems(
        dict(zip(refusing, (replies[0] for replies in plain), strict=False)),
        dict(zip(serving, (replies[0] for replies in plain[len(refusing) :]), strict=True)),
        meshed[0],
        server.name,
    )


def strict_problems(
    refusing: dict[str, HttpReply], serving: dict[str, HttpReply], meshed: HttpReply, server: str
) -> list[str]:
    """Judge plain text to strict and to open ports, and the mesh client's request."""
    problems = [f"plain text to {where} was answered: {r.outcome}" for where, r in refusing.items() if r.status]
    problems += [
        f"positive control failed: the open port {where} did not serve plain text: {r.outcome}"
        for where, r in serving.items()
        if r.outcome != server
    ]
    if not refusing:
        problems.append("no address to send plain text to")
    return problems + ([] if meshed.outcome == server else [f"a mesh client got: {meshed.outcome}"])


def security_problems(seen: Mapping[str, Security], account: str) -> list[str]:
    """What is wrong with a proxy's TLS settings for endpoints; `account` is in every SPIFFE ID of the application,
    whose trust domain may have aliases."""
    problems = [] if seen else ["has no endpoint of the application"]
    for endpoint, security in seen.items():
        if not security.tls:
            problems.append(f"sends plain text to {endpoint}")
        elif not security.mutual:
            problems.append(f"presents no certificate to {endpoint}")
        elif not security.sans or not all(account in san for san in security.sans):
            accepted = ", ".join(security.sans) or "any identity"
            problems.append(f"accepts {accepted} at {endpoint}, expected {account}")
    return problems
