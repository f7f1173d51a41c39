"""That requests really take the way they should."""

from __future__ import annotations

from meshproof.claims.claim import claim
from meshproof.claims.evidence import Evidence
from meshproof.claims.findings import Findings
from meshproof.claims.scheduler import Manners
from meshproof.gateways.paths import PathCount, dialled, follow
from meshproof.mesh.handles import Mesh
from meshproof.mesh.snapshot import Snapshot


@claim(
    "GATEWAYS-08",
    "requests take the right path: across networks each goes to the far east-west gateway, which forwards connections "
    "to the application; on one network they go to the far pods, and no gateway is touched",
    promised_by="istio.io, Deployment models, Network models",
    hint="compare the endpoints of the client's proxy (DISCOVERY-02) with the counters attached",
    manners=Manners.ALONE,
)
def test_requests_take_the_right_path(mesh: Mesh, snapshot: Snapshot, evidence: Evidence) -> None:
    """Asserted: the client's proxy counts as many requests to the far address as the far version answered, and bare
    handshakes, each a new connection, are all forwarded by the far gateway. (It cannot see single requests.)"""
    findings = Findings("paths")
    for client, server in mesh.pairs:
        count = follow(snapshot, client, server)
        evidence.attach(f"{client}-{server}", {"sent to": dict(count.sent_to), "forwarded": count.forwarded})
        findings.examine(f"{client} to {server}", path_problems(mesh, snapshot, count, client.name, server.name))
    findings.conclude()


def path_problems(mesh: Mesh, snapshot: Snapshot, count: PathCount, client_name: str, server_name: str) -> list[str]:
    """What the counters say against the answers."""
    client, server = mesh.cluster(client_name), mesh.cluster(server_name)
    crosses = mesh.crosses_network(client, server)
    # A gateway leads to every cluster on its network.
    behind = [c for c in mesh.clusters if c is server or (crosses and c.network == server.network)]
    targets = tuple(target for c in behind for target in dialled(snapshot, client, c))
    failed = [answer.outcome for answer in count.answers if not answer.ok]
    far = count.answered_by(frozenset(c.spec.app_version for c in behind))
    sent = count.sent_to_any(targets)
    problems = [f"{len(failed)} of {len(count.answers)} requests failed: {failed[0]}"] if failed else []
    if not far:
        problems.append(f"none of {len(count.answers)} answers came from there")
    if sent != far:
        problems.append(f"{far} answers came from there, but the client's proxy sent {sent} requests there")
    if crosses and not 0 < count.handshakes <= count.forwarded:
        problems.append(f"{count.handshakes} handshakes completed, the far gateway forwarded {count.forwarded}")
    if not crosses and count.forwarded:
        problems.append(f"the far gateway forwarded {count.forwarded} connections, though both are on one network")
    return problems
