"""Asking a control plane again and again while something happens to it: when did it answer, and when not?"""

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
"""Asks once; returns what was wrong, or nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One answer: when it was asked for (monotonic), how long it took, and what was wrong; empty is good."""

    at_s: float
    took_s: float
    wrong: str


@dataclass(slots=True, kw_only=True)
class AvailabilityMonitor:
    """The answers by what was asked for."""

    answers: dict[str, list[CheckResult]] = field(default_factory=dict)

    def gap(self, name: str, window: Window) -> tuple[float, str]:
        """The longest span of a window without a good answer, in seconds, and what was wrong in it last."""
        inside = [a for a in self.answers.get(name, []) if window.begin_s <= a.at_s <= window.end_s]
        longest, since, words = 0.0, window.begin_s, ""
        reason = ""
        for answer in sorted(inside, key=lambda a: a.at_s):
            if answer.wrong:
                words = answer.wrong
            if answer.at_s - since > longest:
                longest, reason = answer.at_s - since, words
            if not answer.wrong:
                since, words = answer.at_s + answer.took_s, ""
        if window.end_s - since > longest:
            longest, reason = window.end_s - since, words
        return longest, reason


def admissions(clusters: Sequence[Cluster], image: str) -> Mapping[str, Check]:
    """Injection and validation of these clusters, by dry runs."""

    def ask(cluster: Cluster) -> str:
        try:
            answer = Admission.ask(cluster, image)
        except Broken as problem:
            return str(problem)
        if answer.pod.verdict is not DryRun.ACCEPTED:
            return f"a pod was {answer.pod}"
        return "" if answer.good_config.verdict is DryRun.ACCEPTED else f"a rule was {answer.good_config}"

    return {f"injection and validation in {cluster}": lambda c=cluster: ask(c) for cluster in clusters}  # type: ignore[misc]


@contextmanager
def monitor_availability(asks: Mapping[str, Check], *, every_s: float = EVERY_S) -> Iterator[AvailabilityMonitor]:
    """Ask each of them every `every_s` seconds while the block lasts, each by itself."""
    availability_monitor = AvailabilityMonitor(answers={name: [] for name in asks})
    stop = threading.Event()

    def watch(name: str) -> None:
        while not stop.wait(every_s):
            begin = time.monotonic()
            wrong = asks[name]()
            availability_monitor.answers[name].append(
                CheckResult(at_s=begin, took_s=time.monotonic() - begin, wrong=wrong)
            )

    with ThreadPoolExecutor(max_workers=max(1, len(asks)), thread_name_prefix="availability_monitor") as pool:
        watchers = [pool.submit(watch, name) for name in asks]
        try:
            yield availability_monitor
        finally:
            stop.set()
    for watcher in watchers:
        watcher.result()
