"""Who is served at all: only mesh identities under STRICT, and only those that a policy names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from meshproof.claims.claim import claim
from meshproof.claims.evidence import Evidence
from meshproof.claims.findings import Findings
from meshproof.clients.envoy_admin import Security, security_of
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.deadlines import DEADLINES, SAMPLES
from meshproof.core.settle import settled
from meshproof.discovery.endpoints import APP_CLUSTER
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.objects import PodFacts
from meshproof.mesh.snapshot import Snapshot
from meshproof.probes.http_batch import Call, Reply, call_from_pod, told_replies
from meshproof.workloads.testbed.lifecycle import Stage
from meshproof.workloads.testbed.names import GUARDED, LISTEN_HTTP, LISTEN_OPEN, service_of


@claim(
    "TRAFFIC-06",
    "under STRICT mutual TLS plain text from an uninjected pod is refused, from every cluster, while mesh clients are "
    "served",
    promised_by="istio.io, Peer Authentication: STRICT; Mutual TLS Migration",
    hint="istioctl x describe pod; a PeerAuthentication must be applied in the control plane of the server's cluster",
)
def test_plain_text_is_refused(mesh: Mesh, snapshot: Snapshot, stage: Stage) -> None:
    """A policy that looks strict and is not lets anybody in the cluster network read and write."""
    findings = Findings("ways")
    ways = [(client, server) for client in mesh.clusters for server in mesh.clusters]
    found = together(lambda way: settled(lambda: plain_problems(snapshot, stage, *way)), ways)
    for (client, server), problems in zip(ways, found, strict=True):
        findings.examine(f"{client} to {server}", problems)
    findings.conclude()


def plain_problems(snapshot: Snapshot, stage: Stage, client: Cluster, server: Cluster) -> list[str]:
    """What a pod outside the mesh gets where it can reach the server at all, and what a mesh client gets."""
    pod, facts = stage.addresses[server.name], snapshot.of(client)
    crosses = snapshot.mesh.crosses_network(client, server)
    refusing = [f"{a}:{names.PORT_SERVICES}" for a in snapshot.of(server).gateway_addresses] if crosses else []
    refusing += [] if crosses else [f"{pod}:{LISTEN_HTTP}"]
    serving = [] if crosses else [f"{pod}:{LISTEN_OPEN}"]
    calls = [Call(url=f"http://{target}/") for target in (*refusing, *serving)]
    plain = call_from_pod(client.kube, facts.outside, calls, timeout_s=DEADLINES.connect)
    (meshed,) = call_from_pod(client.kube, facts.client, [Call(url=stage.url(service_of(server)))])
    return strict_problems(
        dict(zip(refusing, (replies[0] for replies in plain), strict=False)),
        dict(zip(serving, (replies[0] for replies in plain[len(refusing) :]), strict=True)),
        meshed[0],
        server.name,
    )


def strict_problems(refusing: dict[str, Reply], serving: dict[str, Reply], meshed: Reply, server: str) -> list[str]:
    """Judge plain text to strict and to open ports, and the mesh client's request."""
    problems = [f"plain text to {where} was answered: {r.outcome}" for where, r in refusing.items() if r.status]
    problems += [
        f"the open port {where} did not serve plain text, so refusals prove nothing: {r.outcome}"
        for where, r in serving.items()
        if r.outcome != server
    ]
    if not refusing:
        problems.append("there is nothing to send plain text to")
    return problems + ([] if meshed.outcome == server else [f"a mesh client got: {meshed.outcome}"])


# What a client gets below `/guarded`: its own identity or nobody's is allowed, or denied.
EXPECTED = {"allowed": 200, "others": 403, "denied": 403, "spared": 200}
MEANING = {
    "allowed": "allowed to this identity",
    "others": "allowed to another identity only",
    "denied": "denied to this identity",
    "spared": "denied to another identity only",
}


@claim(
    "TRAFFIC-07",
    "an allow and a deny by workload identity hold from every cluster to every cluster",
    promised_by="istio.io, Authorization Policy: source.principals; Security: Identity",
    hint="refused where allowed: the client's SPIFFE ID (TRUST-04) and the trust domain in the policy; served where "
    "denied: the policy must be in the control plane of the server's cluster, and traffic must be mutual TLS",
)
def test_policies_by_identity_hold(mesh: Mesh, snapshot: Snapshot, stage: Stage) -> None:
    """Identity must survive the way between clusters, or a policy refuses the right ones and serves the wrong ones."""
    findings = Findings("ways")
    ways = [(client, server) for client in mesh.clusters for server in mesh.clusters]

    def problems(way: tuple[Cluster, Cluster]) -> list[str]:
        client, server = way
        urls = [stage.url(service_of(server), f"{GUARDED}/{word}") for word in EXPECTED]
        calls = [Call(url=url, count=SAMPLES.repeated) for url in urls]
        pod = snapshot.of(client).client
        return settled(lambda: guard_problems(call_from_pod(client.kube, pod, calls)))

    for (client, server), found in zip(ways, together(problems, ways), strict=True):
        findings.examine(f"{client} to {server}", found)
    findings.conclude()


def guard_problems(replies: Sequence[Sequence[Reply]]) -> list[str]:
    """Judge the replies to each guarded path, in the order of `EXPECTED`."""
    problems = []
    for (word, status), got in zip(EXPECTED.items(), replies, strict=True):
        if {reply.status for reply in got} != {status}:
            problems.append(f"{GUARDED}/{word} ({MEANING[word]}): {told_replies(got)}, expected HTTP {status}")
    return problems


@claim(
    "TRAFFIC-10",
    "the clients and ingress gateways of every cluster speak mutual TLS to every endpoint of the application, and "
    "verify that it is the application",
    promised_by="istio.io, Mutual TLS: auto mutual TLS; Security: Secure naming",
    hint="a DestinationRule with tls.mode DISABLE or SIMPLE for the host, or a PeerAuthentication with DISABLE: "
    "istioctl x describe pod; endpoints without a sidecar",
)
def test_requests_travel_under_mutual_tls(mesh: Mesh, snapshot: Snapshot, evidence: Evidence) -> None:
    """Under PERMISSIVE, Istio's default, plain text is answered as well: nothing but this tells the difference."""
    findings = Findings("proxies")
    findings.skip(snapshot.without_ingress)
    viewers = [(facts.cluster, pod) for facts in snapshot.facts for pod in facts.callers]
    account = f"/ns/{names.APP_NAMESPACE}/sa/"

    def ask(viewer: tuple[Cluster, PodFacts]) -> Mapping[str, Security]:
        cluster, pod = viewer
        return security_of(cluster.kube, pod.namespace, pod.name, APP_CLUSTER)

    for (cluster, pod), seen in zip(viewers, together(ask, viewers), strict=True):
        findings.examine(f"{cluster} {pod}", security_problems(seen, account))
        evidence.attach(f"{cluster}-{pod.name}", {endpoint: asdict(security) for endpoint, security in seen.items()})
    findings.conclude()


def security_problems(seen: Mapping[str, Security], account: str) -> list[str]:
    """What is wrong with how a proxy speaks to endpoints; `account` is in every SPIFFE ID of the application, whose
    trust domain may have aliases."""
    problems = [] if seen else ["it has no endpoint of the application"]
    for endpoint, security in seen.items():
        if not security.tls:
            problems.append(f"speaks plain text to {endpoint}")
        elif not security.mutual:
            problems.append(f"shows {endpoint} no certificate of its own")
        elif not security.sans or not all(account in san for san in security.sans):
            whom = ", ".join(security.sans) or "anybody"
            problems.append(f"takes {whom} for the application at {endpoint}, not {account}")
    return problems
