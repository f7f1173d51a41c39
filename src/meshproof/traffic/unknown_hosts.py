"""Replies of ingress gateways to hosts and paths with and without a route."""

from __future__ import annotations

from meshproof.clients.istio.configuration import PROBE_DOMAIN
from meshproof.core import names
from meshproof.mesh.handles import Cluster
from meshproof.mesh.snapshot import Snapshot
from meshproof.probes.answers import HttpAnswer
from meshproof.probes.runner_reachability import RunnerAccess
from meshproof.workloads.testbed.configuration import KNOWN_PATHS
from meshproof.workloads.testbed.lifecycle import TestBed
from meshproof.workloads.testbed.names import service_of

KNOWN_HOST, PROBE, OTHER_HOST, OTHER_PATH = "the application", "a known path", "an unknown host", "an unknown path"


def request_each_kind(
    access: RunnerAccess, snapshot: Snapshot, test_bed: TestBed, cluster: Cluster
) -> dict[str, HttpAnswer]:
    """One request of each kind."""
    facts = snapshot.of(cluster)
    probe = test_bed.host(service_of(cluster))
    wanted = {
        KNOWN_HOST: (names.APP_HOST, "/"),
        PROBE: (probe, KNOWN_PATHS[0]),
        OTHER_HOST: (f"nobody.{PROBE_DOMAIN}", "/"),
        OTHER_PATH: (probe, "/unknown"),
    }
    return {what: access.http(facts, 1, host=host, path=path)[0] for what, (host, path) in wanted.items()}


def refusal_problems(answers: dict[str, HttpAnswer], *, open_to_all: bool = False) -> list[str]:
    """Judge them: those with a route are served, the others get 404.

    With `open_to_all` somebody else's Gateway accepts every host, so that the reply to an unknown one is not judged.
    """
    problems = [
        f"{what} is not served: {answers[what].outcome}" for what in (KNOWN_HOST, PROBE) if not answers[what].ok
    ]
    problems += [
        f"{what} got {answers[what].outcome}, expected HTTP 404"
        for what in (OTHER_PATH, *(() if open_to_all else (OTHER_HOST,)))
        if answers[what].status != 404
    ]
    return problems
