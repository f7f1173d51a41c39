"""Availability monitor: polls control planes during a fault and measures the longest gap in their service."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from meshproof.core.errors import Broken
from meshproof.load.history import Window
from meshproof.mesh.handles import Cluster
from meshproof.probes.admission import Admission, DryRun

EVERY_S: Final = 0.25

Check = Callable[[], str]
"""Polls once; returns what was wrong, or an empty text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """Result of one check: when it began (monotonic), how long it took, and what was wrong (empty: nothing)."""

    at_s: float
    took_s: float
    wrong: str


@dataclass(slots=True, kw_only=True)
class AvailabilityMonitor:
    """All results, by the name of the check."""

    results: dict[str, list[CheckResult]] = field(default_factory=dict)

    def gap(self, name: str, window: Window) -> tuple[float, str]:
        """The longest time in a window without a good result, in seconds, and the last problem in it."""
        inside = [a for a in self.results.get(name, []) if window.begin_s <= a.at_s <= window.end_s]
        longest, since, problem = 0.0, window.begin_s, ""
        reason = ""
        for result in sorted(inside, key=lambda result: result.at_s):
            if result.wrong:
                problem = result.wrong
            if result.at_s - since > longest:
                longest, reason = result.at_s - since, problem
            if not result.wrong:
                since, problem = result.at_s + result.took_s, ""
        if window.end_s - since > longest:
            longest, reason = window.end_s - since, problem
        return longest, reason


def admissions(clusters: Sequence[Cluster], image: str) -> Mapping[str, Check]:
    """Checks of injection and validation in these clusters, by dry runs."""

    def dry_run(cluster: Cluster) -> str:
        try:
            admission = Admission.ask(cluster, image)
        except Broken as problem:
            return str(problem)
        if admission.pod.verdict is not DryRun.ACCEPTED:
            return f"a pod was {admission.pod}"
        if admission.good_config.verdict is not DryRun.ACCEPTED:
            return f"valid Istio configuration was {admission.good_config}"
        return ""

    return {f"injection and validation in {cluster}": lambda c=cluster: dry_run(c) for cluster in clusters}  # type: ignore[misc]


@contextmanager
def monitor_availability(checks: Mapping[str, Check], *, every_s: float = EVERY_S) -> Iterator[AvailabilityMonitor]:
    """Run each check every `every_s` seconds while the block runs, each in a thread of its own."""
    availability_monitor = AvailabilityMonitor(results={name: [] for name in checks})
    stop = threading.Event()

    def watch(name: str) -> None:
        while not stop.wait(every_s):
            begin = time.monotonic()
            wrong = checks[name]()
            availability_monitor.results[name].append(
                CheckResult(at_s=begin, took_s=time.monotonic() - begin, wrong=wrong)
            )

    with ThreadPoolExecutor(max_workers=max(1, len(checks)), thread_name_prefix="availability_monitor") as pool:
        watchers = [pool.submit(watch, name) for name in checks]
        try:
            yield availability_monitor
        finally:
            stop.set()
    for watcher in watchers:
        watcher.result()
