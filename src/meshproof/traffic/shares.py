"""Judging a sample of answers: no errors in the window, and versions in the shares that endpoints promise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from meshproof.claims.evidence import Evidence
from meshproof.claims.findings import Findings
from meshproof.core.concurrency import together
from meshproof.core.statistics import test_shares
from meshproof.mesh.handles import Cluster, Mesh
from meshproof.probes.answers import HttpAnswer

Sample = tuple[dict[str, float], list[HttpAnswer]]
"""The share that each version is promised, and the answers."""


def share_problems(answers: Sequence[HttpAnswer], expected: Mapping[str, float]) -> list[str]:
    """What is wrong with a sample; shares are only judged if every request was answered."""
    errors = Counter(answer.outcome for answer in answers if not answer.ok)
    if errors:
        told = ", ".join(f"{outcome} x{count}" for outcome, count in errors.most_common(5))
        return [f"{errors.total()} of {len(answers)} requests failed: {told}"]
    test = test_shares(Counter(answer.outcome for answer in answers), expected)
    return [] if test.ok else [f"shares do not fit the endpoints' weights: {test}"]


def told(answers: Sequence[HttpAnswer]) -> str:
    """A sample in one line: `v1 101, v2 99 of 200`."""
    counts = Counter(answer.outcome for answer in answers)
    return ", ".join(f"{outcome} {count}" for outcome, count in sorted(counts.items())) + f" of {len(answers)}"


def judge_shares(mesh: Mesh, sample: Callable[[Cluster], Sample], evidence: Evidence) -> None:
    """Take a sample in every cluster and judge each by itself; every version of the mesh must be promised a share."""
    versions = {cluster.spec.app_version for cluster in mesh.clusters}
    findings = Findings("samples")
    for cluster, (expected, answers) in zip(mesh.clusters, together(sample, mesh.clusters), strict=True):
        silent = sorted(versions - expected.keys())
        problems = [f"its proxy has no endpoint of version {', '.join(silent)}"] if silent else []
        findings.examine(f"from {cluster}", problems + share_problems(answers, expected))
        evidence.attach(f"from-{cluster}", {"counts": told(answers), "answers": [asdict(answer) for answer in answers]})
    findings.conclude()
