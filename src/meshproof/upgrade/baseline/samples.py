"""Samples of responses to a small fixed number of requests, and the comparison of two samples."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from meshproof.clients.kubernetes.client import Json
from meshproof.core import names
from meshproof.core.concurrency import together
from meshproof.core.deadlines import SAMPLES
from meshproof.core.statistics import ALPHA, test_shares
from meshproof.discovery.endpoints import app_endpoints, expected_versions
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.mesh.objects import PodFacts
from meshproof.mesh.snapshot import Snapshot
from meshproof.probes.answers import HttpAnswer
from meshproof.probes.http import app_url, http_from_pod
from meshproof.upgrade.baseline.model import Sample
from meshproof.upgrade.baseline.workload_identity import Raw

STEP: Final = 1.25
"""Ratio of two consecutive bounds of the latency histogram."""
SLOWER: Final = 3.0
LONGER_MS: Final = 20.0
"""A response is slow beyond this factor and this addition to the median; smaller changes come from CPU load."""


def samples_of(mesh: Mesh, raws: Sequence[Raw]) -> dict[str, Sample]:
    """Samples from the client of every cluster, concurrently. Empty without clients or without the application."""
    if not any(_is_client(pod) for raw in raws for pod in raw.pods):
        return {}
    snapshot = Snapshot.take(mesh)
    sources = [
        (facts.cluster, pod)
        for facts in snapshot.facts
        for pod in [p for p in facts.pods_of(names.CLIENT_NAMESPACE, app=names.CLIENT_POD) if p.ready and p.has_proxy][
            :1
        ]
    ]
    if not any(facts.ready_endpoints for facts in snapshot.facts):
        return {}
    found = together(lambda source: _sample_from(snapshot, *source), sources)
    return {f"client of {cluster}": sample for (cluster, _), sample in zip(sources, found, strict=True)}


def _is_client(pod: Json) -> bool:
    meta = pod["metadata"]
    return meta["namespace"] == names.CLIENT_NAMESPACE and (meta.get("labels") or {}).get("app") == names.CLIENT_POD


def _sample_from(snapshot: Snapshot, cluster: Cluster, pod: PodFacts) -> Sample:
    promised = expected_versions(snapshot, app_endpoints(cluster, pod))
    return sample(http_from_pod(cluster.kube, pod, app_url(), SAMPLES.record), promised)


def sample(responses: Sequence[HttpAnswer], promised: Mapping[str, float]) -> Sample:
    counts = Counter(response.outcome for response in responses)
    latency = Counter(bound_of(response.seconds * 1000) for response in responses if response.ok)
    return Sample(counts=dict(sorted(counts.items())), promised=promised, latency=dict(sorted(latency.items())))


def bound_of(milliseconds: float) -> float:
    """The upper bound of its histogram class."""
    exponent = math.ceil(math.log(max(milliseconds, 0.1), STEP))
    return float(f"{STEP**exponent:.3g}")


# -- judging ----------------------------------------------------------------------------------------------------------


def sample_problems(before: Sample, after: Sample) -> Iterator[tuple[str, str, str]]:
    """Statistically significant changes, with the value before and after: outcomes, or latency.

    Later responses are tested against the shares promised before, so small samples suffice.
    """
    test = test_shares(after.counts, before.promised)
    if not test.ok:
        yield (
            "outcomes",
            _counts_text(before.counts),
            f"{_counts_text(after.counts)} (p = {test.p_value:.1g}, alpha {ALPHA:.0e})",
        )
    slow = slower(before.latency, after.latency)
    if slow is not None:
        yield (
            "latency",
            f"median {median(before.latency):g} ms",
            f"median {median(after.latency):g} ms (p = {slow:.1g})",
        )


def slower(before: Mapping[float, int], after: Mapping[float, int]) -> float | None:
    """The p-value of the increase of slow responses (Fisher's exact test), if it is significant and they are more than
    half. Slow: longer than `SLOWER` times the median before, and longer than that median plus `LONGER_MS`.
    """
    if not before or not after:
        return None
    limit = max(SLOWER * median(before), LONGER_MS + median(before))
    if median(after) <= limit:
        return None
    from scipy.stats import hypergeom  # slow to import, and rarely needed

    slow = [sum(count for bound, count in each.items() if bound > limit) for each in (before, after)]
    totals = [sum(each.values()) for each in (before, after)]
    p_value = float(hypergeom.sf(slow[1] - 1, sum(totals), sum(slow), totals[1]))
    return p_value if p_value < ALPHA else None


def median(latency: Mapping[float, int]) -> float:
    values = _each(latency)
    return values[len(values) // 2]


def _each(latency: Mapping[float, int]) -> list[float]:
    return [bound for bound, count in sorted(latency.items()) for _ in range(count)]


def _counts_text(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{outcome} {count}" for outcome, count in counts.items()) + f" of {sum(counts.values())}"
