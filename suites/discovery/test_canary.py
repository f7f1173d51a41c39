"""Discovery that is alive: changes in one cluster arrive in the others."""

from __future__ import annotations

from contextlib import ExitStack

from meshproof.canary import Flight, canary_endpoint, canary_services, fly, fqdn, headless_problems
from meshproof.claims import claim
from meshproof.clients import istiod
from meshproof.deadlines import DEADLINES
from meshproof.errors import ClaimFailed
from meshproof.findings import Findings
from meshproof.mesh import Cluster, Mesh
from meshproof.parallel import together
from meshproof.report.evidence import Evidence
from meshproof.snapshot import Snapshot
from meshproof.wait import NotYet, eventually


@claim(
    "DISCOVERY-03",
    "an endpoint that appears in one cluster is soon known to the proxies of every other cluster, and forgotten soon "
    "after it is gone",
    promised_by="istio.io, Install Multicluster: each control plane watches the API servers of all clusters",
    hint="nothing arrives but DISCOVERY-01 says synced: the remote secret's token is revoked or over (DISCOVERY-04), "
    "or the network between istiod and that API server is cut; istiod says synced for ever once it was",
)
def test_changes_arrive(mesh: Mesh, snapshot: Snapshot, evidence: Evidence) -> None:
    """istiod says "synced" once and never takes it back; only a change that arrives shows that somebody listens."""
    findings = Findings("directions")
    flights: list[Flight] = [f for found in together(lambda c: fly(snapshot, c), mesh.clusters) for f in found]
    for flight in flights:
        findings.examine(f"from {flight.server} to {flight.viewer}", flight.problems)
    evidence.attach(
        "canaries", {f"{f.server} to {f.viewer}": {"known after": f.known_s, "gone after": f.gone_s} for f in flights}
    )
    findings.conclude()


@claim(
    "DISCOVERY-09",
    "a headless service resolves to the pods of every cluster on the client's network, and to no others",
    promised_by="istio.io, DNS Proxying; ENABLE_MULTICLUSTER_HEADLESS: same-network endpoints in any cluster",
    hint="is ENABLE_MULTICLUSTER_HEADLESS set to false on istiod? then only pods of the client's own cluster are told",
)
def test_headless_services_resolve(mesh: Mesh, snapshot: Snapshot, evidence: Evidence) -> None:
    """Judged by the name table that istiod makes for each client; proxies use it where DNS capture is on. Across
    networks a headless service cannot be reached (istio/istio#38327): such clusters are reported and not failed."""
    findings = Findings("clients")
    with ExitStack() as stack:
        name = stack.enter_context(canary_services(snapshot, headless=True))
        for cluster in mesh.clusters:
            stack.enter_context(canary_endpoint(cluster, snapshot.of(cluster).client, name))
        for cluster, problems in zip(
            mesh.clusters, together(lambda c: _resolved(snapshot, c, name), mesh.clusters), strict=True
        ):
            findings.examine(f"{cluster} {snapshot.of(cluster).client}", problems)
    limits = [f"{a} is not told pods of {b}: other network" for a, b in mesh.pairs_across_networks]
    capture = {str(f.cluster): (f.client.proxy_env or {}).get("ISTIO_META_DNS_CAPTURE", "off") for f in snapshot.facts}
    evidence.attach("headless", {"DNS capture of clients": capture, "limits": limits})
    findings.conclude()


def _resolved(snapshot: Snapshot, viewer: Cluster, name: str) -> list[str]:
    """What is still wrong with the name table of the client in `viewer` when it has had its time."""
    home, pod = snapshot.mesh.control_plane_of(viewer), snapshot.of(viewer).client
    problems: list[str] = []

    def check() -> None:
        nonlocal problems
        tables = [
            istiod.name_table(home.kube, r.name, f"{pod.name}.{pod.namespace}") for r in snapshot.of(home).istiods
        ]
        told = next((table for table in tables if table is not None), {})
        problems = headless_problems(snapshot, viewer, told, name)
        if problems:
            raise NotYet("; ".join(problems))

    try:
        eventually(check, what=fqdn(name), timeout_s=DEADLINES.canary, error=ClaimFailed)
    except ClaimFailed:
        return problems
    return []
