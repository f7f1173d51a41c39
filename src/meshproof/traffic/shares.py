"""Judging a sample of answers: no errors in the window, and versions in the shares of their endpoint weights.

`judge_shares` takes what a claim samples; `uneven` and `all_answer` sample every ingress gateway and client themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from meshproof.claims.evidence import Evidence
from meshproof.claims.findings import Findings
from meshproof.clients import envoy_admin as envoy
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.deadlines import SAMPLES
from meshproof.core.errors import Broken, NotReady
from meshproof.core.statistics import test_shares
from meshproof.core.waiting import NotYet, eventually
from meshproof.discovery.endpoints import expected_versions
from meshproof.load.generator import DEFAULT, LoadTarget
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.objects import PodFacts
from meshproof.mesh.snapshot import Snapshot
from meshproof.probes.answers import HttpAnswer
from meshproof.probes.http import http_from_pod, http_from_runner

Sample = tuple[dict[str, float], list[HttpAnswer]]
"""The expected share of each version, and the answers."""


def share_problems(answers: Sequence[HttpAnswer], expected: Mapping[str, float]) -> list[str]:
    """What is wrong with a sample; shares are only judged if every request was answered."""
    errors = Counter(answer.outcome for answer in answers if not answer.ok)
    if errors:
        common = ", ".join(f"{outcome} x{count}" for outcome, count in errors.most_common(5))
        return [f"{errors.total()} of {len(answers)} requests failed: {common}"]
    test = test_shares(Counter(answer.outcome for answer in answers), expected)
    return [] if test.ok else [f"shares do not match the endpoint weights: {test}"]


def count_summary(answers: Sequence[HttpAnswer]) -> str:
    """A sample in one line: `v1 101, v2 99 of 200`."""
    counts = Counter(answer.outcome for answer in answers)
    return ", ".join(f"{outcome} {count}" for outcome, count in sorted(counts.items())) + f" of {len(answers)}"


def judge_shares(
    mesh: Mesh,
    clusters: Sequence[Cluster],
    sample: Callable[[Cluster], Sample],
    findings: Findings,
    evidence: Evidence,
) -> None:
    """Take a sample in each of these clusters and judge each by itself; every version of the mesh must have an
    expected share."""
    versions = {cluster.spec.app_version for cluster in mesh.clusters}
    for cluster, (expected, answers) in zip(clusters, together(sample, clusters), strict=True):
        silent = sorted(versions - expected.keys())
        problems = [f"its proxy has no endpoint of version {', '.join(silent)}"] if silent else []
        findings.examine(f"from {cluster}", problems + share_problems(answers, expected))
        evidence.attach(
            f"from-{cluster}", {"counts": count_summary(answers), "answers": [asdict(answer) for answer in answers]}
        )
    findings.conclude()


def uneven(mesh: Mesh, target: LoadTarget = DEFAULT) -> dict[str, list[str]]:
    """By source what is wrong with one fixed sample of it, as in TRAFFIC-01 and 02; empty lists are good."""
    snapshot = Snapshot.take(mesh)
    versions = {cluster.spec.app_version for cluster in mesh.clusters}

    def judge(item: tuple[Cluster, bool]) -> list[str]:
        cluster, through_ingress = item
        facts = snapshot.of(cluster)
        expected = expected_versions(snapshot, _endpoints(cluster, _pod(snapshot, item), target))
        silent = [f"no endpoint of version {version}" for version in sorted(versions - expected.keys())]
        if through_ingress:
            answers = http_from_runner(facts.ingress_address, SAMPLES.shares, host=target.host)
        else:
            answers = http_from_pod(cluster.kube, facts.client, target.url, SAMPLES.shares)
        return silent + share_problems(answers, expected)

    places = _places(snapshot)
    return {_name(place, target): found for place, found in zip(places, together(judge, places), strict=True)}


def all_answer(mesh: Mesh, snapshot: Snapshot, target: LoadTarget, *, timeout_s: float) -> list[str]:
    """Wait until every source is answered by every cluster: an ejected endpoint serves again when its time is over.

    Returns what is wrong if that does not come in time; nothing is good.
    """
    versions = {cluster.spec.app_version for cluster in mesh.clusters}

    def request(item: tuple[Cluster, bool]) -> list[HttpAnswer]:
        cluster, through_ingress = item
        facts = snapshot.of(cluster)
        if through_ingress:
            return http_from_runner(facts.ingress_address, SAMPLES.spread, host=target.host, timeout_s=2.0)
        return http_from_pod(cluster.kube, facts.client, target.url, SAMPLES.spread, timeout_s=2.0)

    def check() -> None:
        places = _places(snapshot)
        try:
            found = together(request, places)
        except Broken as problem:  # a cluster that has just come back may have no kubelet yet
            raise NotYet(str(problem)) from None
        for place, answers in zip(places, found, strict=True):
            outcomes = {answer.outcome for answer in answers}
            if outcomes != versions:
                raise NotYet(f"{_name(place, target)}: {', '.join(sorted(outcomes))}")

    try:
        eventually(check, what="every cluster answers everywhere", timeout_s=timeout_s, poll_s=0.5)
    except NotReady as problem:
        return [problem.reason]
    return []


def _places(snapshot: Snapshot) -> Sequence[tuple[Cluster, bool]]:
    """Each cluster's client, and each ingress gateway that our requests can pass."""
    usable = snapshot.with_ingress
    return [(c, through) for c in snapshot.mesh.clusters for through in (True, False) if not through or c in usable]


def _pod(snapshot: Snapshot, item: tuple[Cluster, bool]) -> PodFacts:
    facts = snapshot.of(item[0])
    return facts.ingress_pod if item[1] else facts.client


def _name(item: tuple[Cluster, bool], target: LoadTarget) -> str:
    what = "even through the ingress gateway of" if item[1] else "even from the client of"
    return f"{what} {item[0]} {target.name}".strip()


def _endpoints(cluster: Cluster, pod: PodFacts, target: LoadTarget) -> tuple[envoy.Endpoint, ...]:
    host = target.url.removeprefix("http://").partition(":")[0]
    return envoy.endpoints_of(cluster.kube, pod.namespace, pod.name, f"outbound|{names.APP_PORT}||{host}")
