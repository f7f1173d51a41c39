"""Request history: the outcome of every request of a load, recorded live and judged afterwards."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import pairwise
from typing import Final

from meshproof.core.errors import Broken

MOST_RECORDS: Final = 200_000
"""Enough for almost three hours at 20 requests a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A moment on the monotonic clock and on the wall clock."""

    monotonic_s: float
    wall: float

    @classmethod
    def now(cls) -> Mark:
        return cls(monotonic_s=time.monotonic(), wall=time.time())

    def at(self, monotonic_s: float) -> Mark:
        """The moment of this monotonic time, computed from its distance to this one."""
        return Mark(monotonic_s=monotonic_s, wall=self.wall + monotonic_s - self.monotonic_s)


class RequestOutcome(StrEnum):
    """The outcome of a request. `UNKNOWN`: its end was not observed, so it counts neither as good nor as bad."""

    ANSWERED = "answered"
    REFUSED = "refused"
    LOST = "lost"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """The response: `status` 0 means none, with the reason in `error`. The gateway reports `flags` and `attempts`."""

    status: int
    version: str = ""
    error: str = ""
    flags: str = ""
    attempts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request: `sent_s` is monotonic, `wall` seconds since 1970, `latency_s` until the response or error.

    `cluster` is where the response came from. `flags` (Envoy's response flags, `-` for none) and `attempts` are
    reported by ingress gateways, and by sidecars for hosts with a route of ours; otherwise empty and 0.
    """

    sent_s: float
    wall: float
    source: str
    outcome: RequestOutcome
    status: int
    version: str
    latency_s: float
    error: str = ""
    cluster: str = ""
    flags: str = ""
    attempts: int = 0

    @property
    def is_bad(self) -> bool:
        """Refused or lost; an unknown outcome is neither good nor bad."""
        return self.outcome in (RequestOutcome.REFUSED, RequestOutcome.LOST)

    @property
    def is_known(self) -> bool:
        return self.outcome is not RequestOutcome.UNKNOWN

    def __str__(self) -> str:
        what = f"HTTP {self.status}" if self.status else self.error or self.outcome
        what += f" {self.flags}" if self.flags.strip("-") else ""
        return f"{clock(self.wall)} {self.source}: {what} after {self.latency_s:.2f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A period on the monotonic clock, both ends included."""

    begin_s: float
    end_s: float

    @property
    def seconds(self) -> float:
        return self.end_s - self.begin_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The requests of one window, counted. Latencies are of answered requests, in seconds (0 if there are none)."""

    total: int
    outcomes: dict[RequestOutcome, int]
    versions: dict[str, int]
    p50_s: float
    p99_s: float
    longest_s: float

    @property
    def answered(self) -> int:
        return self.outcomes.get(RequestOutcome.ANSWERED, 0)

    @property
    def unknown(self) -> int:
        return self.outcomes.get(RequestOutcome.UNKNOWN, 0)

    def __str__(self) -> str:
        versions = ", ".join(f"{version} {count}" for version, count in sorted(self.versions.items()))
        others = "".join(
            f", {count} {outcome}" for outcome, count in self.outcomes.items() if outcome is not RequestOutcome.ANSWERED
        )
        figures = f"p50 {self.p50_s * 1000:.0f} ms, p99 {self.p99_s * 1000:.0f} ms, max {self.longest_s:.2f} s"
        return f"{self.answered} of {self.total} answered ({versions or 'no version'}){others}; {figures}"


class History:
    """Requests in the order in which they ended. Safe to write from several threads; bounded."""

    def __init__(self) -> None:
        self._requests: list[Request] = []
        self._lock = threading.Lock()

    def add(self, request: Request) -> None:
        """Raises `Broken` when it is full."""
        with self._lock:
            if len(self._requests) >= MOST_RECORDS:
                raise Broken(
                    "request history", f"it is full ({MOST_RECORDS} requests)", "lower the rate or shorten the load"
                )
            self._requests.append(request)

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[Request]:
        with self._lock:
            return iter(sorted(self._requests, key=lambda request: request.sent_s))

    def sent_in(self, window: Window, *, sources: Container[str] | None = None) -> list[Request]:
        """The requests that were sent in a window, in the order of sending; of all sources, or of these."""
        return [
            request
            for request in self
            if window.begin_s <= request.sent_s <= window.end_s and (sources is None or request.source in sources)
        ]

    def lost_in(self, window: Window, *, sources: Container[str] | None = None) -> list[Request]:
        """Requests of a window with an error or without a response; `UNKNOWN` ones are not included."""
        return [request for request in self.sent_in(window, sources=sources) if request.is_bad]

    def as_csv(self) -> str:
        """The whole history, one line per request, times in UTC."""
        lines = ["time,source,outcome,status,cluster,version,latency_ms,attempts,flags,error"]
        for request in self:
            error = request.error.replace('"', "'")
            lines.append(
                f"{datetime.fromtimestamp(request.wall, UTC).isoformat(timespec='milliseconds')},{request.source},"
                f"{request.outcome},{request.status},{request.cluster},{request.version},"
                f'{request.latency_s * 1000:.1f},{request.attempts or ""},"{request.flags}","{error}"'
            )
        return "\n".join(lines) + "\n"


def summarise(requests: Iterable[Request]) -> Summary:
    """Counts of requests, and latency percentiles of responses (nearest rank)."""
    all_of_them = list(requests)
    answered = [request for request in all_of_them if request.outcome is RequestOutcome.ANSWERED]
    latencies = sorted(request.latency_s for request in answered)
    return Summary(
        total=len(all_of_them),
        outcomes=dict(Counter(request.outcome for request in all_of_them)),
        versions=dict(Counter(request.version for request in answered)),
        p50_s=_rank(latencies, 0.50),
        p99_s=_rank(latencies, 0.99),
        longest_s=latencies[-1] if latencies else 0.0,
    )


SLOW_S: Final = 1.0
"""A slower response is as bad as none for the user who waits for it."""


def bad_spell(requests: Iterable[Request], since_s: float, *, slow_s: float = SLOW_S) -> float:
    """Seconds from `since_s` until the last request that was refused, lost, or slower than `slow_s`; 0 if none was.

    This is how long a fault that began then affected users.
    """
    felt = [r.sent_s for r in requests if r.sent_s >= since_s and (r.is_bad or r.latency_s > slow_s)]
    return max(felt) - since_s if felt else 0.0


def silence(requests: Iterable[Request], window: Window, cluster: str) -> float:
    """The longest time in a window, in seconds, without a response from `cluster`."""
    answered = [
        r.sent_s
        for r in requests
        if r.outcome is RequestOutcome.ANSWERED and r.cluster == cluster and window.begin_s <= r.sent_s <= window.end_s
    ]
    moments = [window.begin_s, *sorted(answered), window.end_s]
    return max(later - sooner for sooner, later in pairwise(moments))


def _rank(ordered: list[float], share: float) -> float:
    return ordered[max(0, -(-int(share * 100) * len(ordered) // 100) - 1)] if ordered else 0.0


def clock(wall: float) -> str:
    """Seconds since 1970 as local time of day, as in logs."""
    return datetime.fromtimestamp(wall).astimezone().strftime("%H:%M:%S")
