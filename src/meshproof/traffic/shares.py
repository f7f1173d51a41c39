"""Judging a sample of answers: no errors in the window, and versions in the shares of their endpoint weights.

`judge_shares` takes what a claim samples; `uneven` and `all_answer` sample every ingress gateway and client themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass

from meshproof.claims.evidence import Evidence
from meshproof.claims.findings import Findings
from meshproof.clients import envoy_admin as envoy
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.deadlines import SAMPLES
from meshproof.core.errors import Broken, ClaimFailed, NotReady
from meshproof.core.statistics import test_shares
from meshproof.core.waiting import NotYet, eventually
from meshproof.discovery.endpoints import app_endpoints, expected_versions, known_versions
from meshproof.load.generator import DEFAULT, LoadTarget
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.objects import PodFacts
from meshproof.mesh.snapshot import Snapshot
from meshproof.probes.answers import HttpAnswer
from meshproof.probes.http import http_from_pod, http_from_runner
from meshproof.traffic.priorities import Preference, preference


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The versions that a proxy's endpoints lead to, the expected share of each, why these, and the answers."""

    known: frozenset[str]
    expected: Mapping[str, float]
    preference: Preference
    answers: Sequence[HttpAnswer]


def sample_of(snapshot: Snapshot, cluster: Cluster, pod: PodFacts, request: Callable[[], list[HttpAnswer]]) -> Sample:
    """Read what the proxy of `pod` should do with requests to the application, then make them."""
    endpoints = app_endpoints(cluster, pod)
    return Sample(
        known=known_versions(snapshot, endpoints),
        expected=expected_versions(snapshot, endpoints),
        preference=preference(snapshot, cluster, pod, endpoints),
        answers=request(),
    )


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
    """Take a sample in each of these clusters and judge each by itself; every version of the mesh must be known, and
    those of the highest priority must answer, in their shares."""
    versions = {cluster.spec.app_version for cluster in mesh.clusters}
    for cluster, taken in zip(clusters, together(sample, clusters), strict=True):
        silent = sorted(versions - taken.known)
        problems = [f"its proxy has no endpoint of version {', '.join(silent)}"] if silent else []
        problems += [*taken.preference.problems, *share_problems(taken.answers, taken.expected)]
        findings.examine(f"from {cluster}", problems)
        shares = ", ".join(f"{version} {share:.1%}" for version, share in sorted(taken.expected.items()))
        if idle := sorted(taken.known - taken.expected.keys()):
            findings.advise(
                f"from {cluster}: requests go to {shares}; {', '.join(idle)} has a lower priority "
                f"({taken.preference.why})"
            )
        evidence.attach(
            f"from-{cluster}",
            {
                "counts": count_summary(taken.answers),
                "expected": shares,
                "because": taken.preference.why,
                "answers": [asdict(answer) for answer in taken.answers],
            },
        )
    findings.conclude()


def uneven(mesh: Mesh, target: LoadTarget = DEFAULT) -> dict[str, list[str]]:
    """By source what is wrong with one fixed sample of it, as in TRAFFIC-01 and 02; empty lists are good."""
    snapshot = Snapshot.take(mesh)
    versions = {cluster.spec.app_version for cluster in mesh.clusters}

    def judge(item: tuple[Cluster, bool]) -> list[str]:
        cluster, through_ingress = item
        facts = snapshot.of(cluster)
        endpoints = _endpoints(cluster, _pod(snapshot, item), target)
        expected, known = expected_versions(snapshot, endpoints), known_versions(snapshot, endpoints)
        silent = [f"no endpoint of version {version}" for version in sorted(versions - known)]
        if through_ingress:
            answers = http_from_runner(facts.ingress_address, SAMPLES.shares, host=target.host)
        else:
            answers = http_from_pod(cluster.kube, facts.client, target.url, SAMPLES.shares)
        return silent + share_problems(answers, expected)

    places = _places(snapshot)
    return {_name(place, target): found for place, found in zip(places, together(judge, places), strict=True)}


def all_answer(mesh: Mesh, snapshot: Snapshot, target: LoadTarget, *, timeout_s: float) -> list[str]:
    """Wait until every source is answered by every cluster: an ejected endpoint serves again when its time is over.

    Where configuration has a source prefer some clusters, these must answer. Returns what is wrong if that does not
    come in time; nothing is good.
    """
    versions = {cluster.spec.app_version for cluster in mesh.clusters}

    def request(item: tuple[Cluster, bool]) -> list[HttpAnswer]:
        cluster, through_ingress = item
        facts = snapshot.of(cluster)
        if through_ingress:
            return http_from_runner(facts.ingress_address, SAMPLES.spread, host=target.host, timeout_s=2.0)
        return http_from_pod(cluster.kube, facts.client, target.url, SAMPLES.spread, timeout_s=2.0)

    def preferred(place: tuple[Cluster, bool]) -> Set[str]:
        """The versions of the highest priority, once the source knows all of them."""
        endpoints = _endpoints(place[0], _pod(snapshot, place), target)
        try:
            return (
                expected_versions(snapshot, endpoints).keys()
                if known_versions(snapshot, endpoints) == versions
                else set()
            )
        except ClaimFailed:  # endpoints of nobody, which may still go
            return set()

    def check() -> None:
        places = _places(snapshot)
        try:
            found = together(request, places)
        except Broken as problem:  # a cluster that has just come back may have no kubelet yet
            raise NotYet(str(problem)) from None
        for place, answers in zip(places, found, strict=True):
            outcomes = {answer.outcome for answer in answers}
            if outcomes != versions and outcomes != preferred(place):
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
