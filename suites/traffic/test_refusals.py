"""What nobody asked to be served is not."""

from __future__ import annotations

from meshproof.claims.claim import claim
from meshproof.claims.findings import Findings
from meshproof.clients.istio.configuration import PROBE_DOMAIN
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.settle import settled
from meshproof.mesh.handles import Cluster
from meshproof.mesh.snapshot import NAME_AN_INGRESS, Snapshot
from meshproof.probes.answers import HttpAnswer
from meshproof.probes.runner_reachability import RunnerAccess
from meshproof.workloads.testbed.configuration import KNOWN_PATHS
from meshproof.workloads.testbed.lifecycle import Stage
from meshproof.workloads.testbed.names import service_of

KNOWN_HOST, PROBE, OTHER_HOST, OTHER_PATH = "the application", "a known path", "an unknown host", "an unknown path"


@claim(
    "TRAFFIC-08",
    "the ingress gateways refuse hosts and paths that no route names (404), and serve those that are named",
    promised_by="istio.io, Ingress Gateways: other hosts and paths get HTTP 404",
    hint="a VirtualService or Gateway with host '*' takes what nobody else wants: istioctl proxy-config routes",
)
def test_unknown_hosts_and_paths_are_refused(snapshot: Snapshot, stage: Stage, runner_access: RunnerAccess) -> None:
    """A catch-all route publishes services that nobody meant to publish."""
    findings = Findings("gateways")

    def judged(cluster: Cluster) -> list[str]:
        return settled(lambda: refusal_problems(ask(runner_access, snapshot, stage, cluster)))

    findings.skip(snapshot.without_ingress, NAME_AN_INGRESS)
    found = together(judged, snapshot.with_ingress)
    for cluster, problems in zip(snapshot.with_ingress, found, strict=True):
        findings.examine(f"ingress gateway of {cluster}", problems)
    findings.conclude()


def ask(access: RunnerAccess, snapshot: Snapshot, stage: Stage, cluster: Cluster) -> dict[str, HttpAnswer]:
    """One request of each kind."""
    facts = snapshot.of(cluster)
    probe = stage.host(service_of(cluster))
    wanted = {
        KNOWN_HOST: (names.APP_HOST, "/"),
        PROBE: (probe, KNOWN_PATHS[0]),
        OTHER_HOST: (f"nobody.{PROBE_DOMAIN}", "/"),
        OTHER_PATH: (probe, "/unknown"),
    }
    return {what: access.http(facts, 1, host=host, path=path)[0] for what, (host, path) in wanted.items()}


def refusal_problems(answers: dict[str, HttpAnswer]) -> list[str]:
    """Judge them: the named are served, the others get 404."""
    problems = [
        f"{what} is not served: {answers[what].outcome}" for what in (KNOWN_HOST, PROBE) if not answers[what].ok
    ]
    problems += [
        f"{what} got {answers[what].outcome}, expected HTTP 404"
        for what in (OTHER_HOST, OTHER_PATH)
        if answers[what].status != 404
    ]
    return problems
