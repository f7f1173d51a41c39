"""What control planes know about the clusters, and which configuration proxies have."""

from __future__ import annotations

from meshproof.claims.claim import Isolation, claim
from meshproof.claims.findings import Findings, listed
from meshproof.clients.istio import istiod_debug as istiod
from meshproof.clients.istio.istiod_debug import REJECTED
from meshproof.core.concurrency import together
from meshproof.core.deadlines import DEADLINES
from meshproof.core.errors import ClaimFailed
from meshproof.core.waiting import NotYet, eventually
from meshproof.discovery.endpoints import app_endpoints, endpoint_problems
from meshproof.discovery.sync import xds_problems
from meshproof.mesh.snapshot import Snapshot
from meshproof.run.claim_context import ClaimContext


@claim(
    "DISCOVERY-01",
    "every istiod replica knows exactly the clusters of the mesh, all synced",
    promised_by="istio.io, Install Multicluster: each control plane watches the API servers of all clusters",
    hint="istioctl remote-clusters; then look at secrets with label istio/multiCluster=true and at istiod's log",
    settings="replicas, revisions: each istiod is queried; clusters that the topology lacks: a run on existing "
    "clusters ends before, and names them",
)
def test_every_istiod_knows_the_clusters(context: ClaimContext) -> None:
    """A control plane that does not see a cluster gives its clients local endpoints only, and requests still get
    status 200."""
    wanted = {cluster.name: istiod.SYNCED for cluster in context.mesh.clusters}
    replicas = [(facts.cluster, pod) for facts in context.snapshot.facts for pod in facts.istiods]
    without = [str(c) for c in context.mesh.primaries if not context.snapshot.of(c).istiods]
    if without:
        raise ClaimFailed(f"no istiod runs in {', '.join(without)}")

    def check() -> None:
        wrong = []
        for (cluster, pod), known in zip(
            replicas, together(lambda item: istiod.clusterz(item[0].kube, item[1].name), replicas), strict=True
        ):
            seen = {entry.cluster: entry.status for entry in known}
            if seen != wanted:
                wrong.append(f"{cluster} {pod.name} knows {', '.join(f'{c} ({s})' for c, s in sorted(seen.items()))}")
        if wrong:
            raise NotYet("; ".join(wrong))

    what = f"istiods know {', '.join(wanted)}"
    eventually(check, what=what, timeout_s=DEADLINES.discovery_s, error=ClaimFailed)


@claim(
    "DISCOVERY-02",
    "clients have exactly the expected endpoints and weights: pods on their own network, gateways for other networks",
    promised_by="istio.io, Deployment models, Network models: across networks only the gateway's address is reachable",
    hint="foreign pod addresses: label istio-system with topology.istio.io/network, and check the east-west gateway's "
    "external address; nothing from the other cluster: see DISCOVERY-01",
    settings="labels topology.istio.io/network and networking.istio.io/gatewayPort, meshNetworks, host names of "
    "load balancers: which gateways; zones: weights of a gateway are added; localityLbSetting.distribute "
    "to some localities only: red",
)
def test_endpoints_are_as_expected(context: ClaimContext) -> None:
    """Without a gateway istiod falls back to foreign pod addresses: half of the requests time out, and retries hide it.

    Gateways are expected on port 15443; weights follow the number of ready pods.
    """
    viewers = [(facts.cluster, pod) for facts in context.snapshot.facts for pod in facts.callers]
    findings = Findings("proxies")
    findings.skip(context.snapshot.without_ingress)
    for (cluster, pod), seen in zip(viewers, together(lambda v: app_endpoints(*v), viewers), strict=True):
        findings.examine(f"{cluster} {pod}", endpoint_problems(context.snapshot, cluster, seen))
        context.evidence.attach(f"{cluster}-{pod.name}", "\n".join(str(endpoint) for endpoint in seen))
    findings.conclude()


@claim(
    "DISCOVERY-05",
    "every proxy is connected to its own control plane and in sync with it",
    promised_by="xDS protocol, ACK and NACK; istioctl proxy-status, with and without a pod",
    hint="istioctl proxy-status; a rejection's text names the resource, the rest is in the proxy's log; an old version "
    "of a resource without a reported rejection was rejected earlier: look for EnvoyFilters",
    isolation=Isolation.BEFORE_CONFIG_PUSHES,
)
def test_every_proxy_is_in_sync(context: ClaimContext) -> None:
    """A rejected listener leaves the old one in place: the mesh works until the next change, which never arrives.

    In sync: nothing is rejected, all that was sent is acknowledged, and clusters, listeners and routes are those that
    istiod would send now.
    """

    def check() -> int:
        state = xds_problems(Snapshot.take(context.mesh))
        wrong = [f"{proxy}: {problem}" for proxy, problems in state.items() for problem in problems]
        if wrong or not state:
            text = f"{len(wrong)} problems\n{listed('proxies', wrong or ['no proxy found'])}"
            # A rejection is final, and istiod may forget it while we wait; all else may still arrive.
            raise ClaimFailed(text) if any(REJECTED in problem for problem in wrong) else NotYet(text)
        return len(state)

    eventually(check, what="proxies are in sync", timeout_s=DEADLINES.sync_s, poll_s=1.0, error=ClaimFailed)
