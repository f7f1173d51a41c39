"""`verdict.yaml`: the machine-readable go or no-go of a run, written and read back.

Schema `meshproof/verdict/1` (fields are only ever added):

    schema: meshproof/verdict/1
    go: true                       # every claim that was asked holds, and none is missing
    outcome: GO                    # NO-GO if a claim does not hold; NOT KNOWN if claims are BROKEN or missing
    meshproof: 0.1.0
    started: 2026-01-31T12:00:00+00:00
    duration_s: 91.2
    provider: lab
    istio: 1.31.0
    data_plane: Envoy 1.40.0 (upstream)
    kubernetes: {cluster1: v1.36.1, cluster2: v1.36.1}
    asked_from_pods: []            # gateways that pods called because this machine cannot reach them
    api_requests:                  # made to the clusters' API servers by this run, set-up and clean-up included
      total: 812
      clusters: {cluster1: 430, cluster2: 382}
      verbs: {DELETE: 12, EXEC: 240, GET: 420, PATCH: 60, POST: 50, WATCH: 30}
    counts: {SUCCEEDED: 18, NOT_APPLICABLE: 2, SKIPPED: 0, FAILED: 0, BROKEN: 0}
    missing: []                    # why the run is not green although no test failed
    causes: []                     # where several claims are FAILED or BROKEN for one cause, the most likely first:
                                   # {result: BROKEN, reason: "…", repair: "…", topologies: […], claims: […]}
    rebuilt: []                    # why the mesh was reinstalled: it did not heal after a fault
    topologies:
      multi-primary-multinet:
        counts: {…}
        claims:
          TRUST-01: {result: SUCCEEDED, duration_s: 0.12}
          CONTROL-01: {result: NOT_APPLICABLE, reason: "…", duration_s: 0.0}
          FAILOVER-01: {result: SUCCEEDED, duration_s: 0.0, figures: {…}}

`notes` are remarks that are independent of the claim's result, where there are any: what could not be
examined and why, and advice about what is not a failure.

`figures` are the measurements of a FAILOVER claim, by fault, from all sources of requests that it judges:

    requests    sent from the fault until the load ended
    lost        of these, refused or without a response
    unknown     of these, those without a known result
    slowest_s   the longest latency of a response
    detect_s    from the fault until the last request was sent, before healing, that was lost or took more than 1 s:
                how long users were affected before the mesh routed around the fault; 0 if they were not
    recover_s   the same from the order to heal on
    healed_s    from the order to heal until the mesh was proven healthy
    late_s      maximum delay of a request behind its schedule: failures with more than 1 s are BROKEN,
                since the load generator was starved of CPU (unless the fault hit the sender itself)

of UPGRADE-03 and UPGRADE-04, by step:

    took_s      duration of the step: an install, a restart of pods until they are ready
    healthy_s      from then until the mesh was proven healthy; absent if it was not
    requests, slowest_s    as above, of all requests from a second before the step until a second after all that
    lost        refused or without an answer, with resilience settings (docs/failover.md)
    lost_by_default        the same with Istio's default settings
    claims_s    duration of the pass of claims that followed; absent without one

and of FAILOVER-13, by outage:

    least_left_h              hours until the first certificate expires: so long the mesh works without istiod
    without_certificate       requests that clients sent while istiod was down, after their certificate had expired
    without_certificate_lost  of these, refused or without a response
    renewed_s                 from istiod being back until the last of these clients had a new certificate
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Protocol

import yaml

from meshproof import __version__
from meshproof.claims.causes import causes_of
from meshproof.claims.results import FILE_NAME, ClaimResult, Ledger, Result
from meshproof.core.errors import BadInput
from meshproof.core.path_options import read_text
from meshproof.report.diagram.model import Proof

SCHEMA: Final = "meshproof/verdict/1"
REPAIR: Final = "name a verdict.yaml written by a run, for example reports/verdict.yaml"


class RunOutcome(StrEnum):
    """The verdict in short; `exit_code` is that of a command which ends with it, as of `meshproof upgrade check`."""

    GO = "GO"
    NO_GO = "NO-GO"
    UNKNOWN = "NOT KNOWN"

    @property
    def exit_code(self) -> int:
        return {RunOutcome.GO: 0, RunOutcome.UNKNOWN: 1, RunOutcome.NO_GO: 4}[self]


def run_outcome(results: Iterable[ClaimResult], missing: Sequence[str]) -> RunOutcome:
    """A claim that does not hold is a NO-GO; otherwise what is BROKEN or missing makes the verdict NOT KNOWN."""
    there = {result.result for result in results}
    if Result.FAILED in there:
        return RunOutcome.NO_GO
    asserted = Result.SUCCEEDED in there and Result.BROKEN not in there and not missing
    return RunOutcome.GO if asserted else RunOutcome.UNKNOWN


class RequestCounter(Protocol):
    """A counter of requests to a cluster's API server: a `Kube`, or the `Tally` of another process."""

    @property
    def name(self) -> str: ...

    @property
    def requests(self) -> Mapping[str, int]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """The number of another process' requests to a cluster's API server."""

    name: str
    requests: Mapping[str, int]


@dataclass(slots=True, kw_only=True)
class RunFacts:
    """Facts about a run, filled in during the run."""

    started: datetime
    provider: str = ""
    istio: str = ""
    data_plane: str = ""
    kubernetes: dict[str, str] = field(default_factory=dict)
    rebuilt: list[str] = field(default_factory=list)
    asked_from_pods: list[str] = field(default_factory=list)
    kubes: list[RequestCounter] = field(default_factory=list)
    """The clients whose requests are counted."""

    def count(self, kubes: Iterable[RequestCounter]) -> None:
        """Count the requests of these clients; topologies of one run may share some."""
        for kube in kubes:
            if kube not in self.kubes:
                self.kubes.append(kube)

    def detached(self) -> RunFacts:
        """A copy for another process: clients are replaced by their request counts."""
        return replace(self, kubes=[Tally(name=kube.name, requests=dict(kube.requests)) for kube in self.kubes])

    def add(self, other: RunFacts) -> None:
        """Add the facts of a worker, which ran other topologies of the same run."""
        self.provider, self.istio = self.provider or other.provider, self.istio or other.istio
        self.data_plane = self.data_plane or other.data_plane
        self.kubernetes |= other.kubernetes
        self.rebuilt += other.rebuilt
        self.asked_from_pods += [text for text in other.asked_from_pods if text not in self.asked_from_pods]
        self.kubes += other.kubes


def verdict(facts: RunFacts, ledger: Ledger, *, missing: Sequence[str], ended: datetime) -> dict[str, Any]:
    """The verdict as plain data, ready for YAML."""
    return {
        "schema": SCHEMA,
        "go": run_outcome(ledger, missing) is RunOutcome.GO,
        "outcome": str(run_outcome(ledger, missing)),
        "meshproof": __version__,
        "started": facts.started.isoformat(timespec="seconds"),
        "duration_s": round((ended - facts.started).total_seconds(), 1),
        "provider": facts.provider,
        "istio": facts.istio,
        "data_plane": facts.data_plane,
        "kubernetes": dict(facts.kubernetes),
        "asked_from_pods": list(facts.asked_from_pods),
        "api_requests": api_requests(facts.kubes),
        "counts": _plain(ledger.counts()),
        "missing": list(missing),
        "causes": [cause.as_plain() for cause in causes_of(ledger.bad) if len(cause.claims) > 1],
        "rebuilt": list(facts.rebuilt),
        "topologies": {
            name: {
                "counts": _plain(ledger.counts(name)),
                "claims": {result.code: _row(result) for result in ledger.of(name)},
            }
            for name in ledger.topologies
        },
    }


def api_requests(kubes: Iterable[RequestCounter]) -> dict[str, Any]:
    """The numbers of requests of clients: in total, by cluster, and by verb."""
    clusters: Counter[str] = Counter()
    verbs: Counter[str] = Counter()
    for kube in kubes:
        made = kube.requests
        clusters[kube.name] += sum(made.values())
        verbs.update(made)
    return {"total": clusters.total(), "clusters": dict(clusters), "verbs": dict(sorted(verbs.items()))}


def requests_line(kubes: Iterable[RequestCounter]) -> str:
    """The same as one line for the summary."""
    requests = api_requests(kubes)
    return f"API requests: {requests['total']} ({', '.join(f'{name} {n}' for name, n in requests['clusters'].items())})"


def write_verdict(folder: Path, data: Mapping[str, Any]) -> Path:
    """Write it into `folder`, which is created if missing; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE_NAME
    path.write_text(yaml.safe_dump(dict(data), sort_keys=False, allow_unicode=True, width=120))
    return path


def _plain(counts: Mapping[Result, int]) -> dict[str, int]:
    return {str(result): count for result, count in counts.items()}


def _row(result: ClaimResult) -> dict[str, Any]:
    row: dict[str, Any] = {"result": str(result.result)}
    if result.reason:
        row["reason"] = result.reason
    row["duration_s"] = round(result.duration_s, 2)
    if result.notes:
        row["notes"] = list(result.notes)
    if result.figures:
        row["figures"] = {name: dict(values) for name, values in result.figures.items()}
    return row


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadVerdict:
    """Results by topology, and the versions of Kubernetes by cluster; `missing` is why the run was not green although
    no claim was red."""

    path: Path
    topologies: Mapping[str, tuple[Proof, ...]]
    kubernetes: Mapping[str, str]
    started: str = ""
    istio: str = ""
    missing: tuple[str, ...] = ()

    def of(self, topology: str) -> tuple[Proof, ...]:
        """Raises `BadInput` if the run was for other topologies."""
        if topology not in self.topologies:
            raise BadInput(
                f"--verdict={self.path}",
                f"it has no results for {topology}",
                f"use --topology={' | '.join(self.topologies)}, or run the claims on {topology}",
            )
        return self.topologies[topology]


def read_verdict(path: Path) -> ReadVerdict:
    """Raises `BadInput` if it cannot be read, is not a verdict, or has no results."""
    text = read_text(f"--verdict={path}", path, REPAIR)
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as problem:
        reason = str(problem).splitlines()[0]
        raise BadInput(f"--verdict={path}", f"not valid YAML: {reason}", REPAIR) from None
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema != SCHEMA:
        raise BadInput(f"--verdict={path}", f"its schema is {schema}, not {SCHEMA}", REPAIR)
    try:
        topologies = {str(name): _proofs(entry["claims"]) for name, entry in data["topologies"].items()}
        kubernetes = {str(name): str(version) for name, version in (data.get("kubernetes") or {}).items()}
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise BadInput(f"--verdict={path}", f"it is damaged: {problem!r}", REPAIR) from None
    if not topologies:
        raise BadInput(f"--verdict={path}", "it has no results", REPAIR)
    return ReadVerdict(
        path=path,
        topologies=topologies,
        kubernetes=kubernetes,
        started=str(data.get("started") or ""),
        istio=str(data.get("istio") or ""),
        missing=tuple(str(reason) for reason in data.get("missing") or []),
    )


def _proofs(claims: Mapping[str, Any]) -> tuple[Proof, ...]:
    return tuple(
        Proof(code=str(code), result=Result(row["result"]), text=str(row.get("reason", "")))
        for code, row in claims.items()
    )
