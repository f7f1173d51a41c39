"""Clocks of API servers and nodes compared with the runner's."""

from __future__ import annotations

import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from meshproof.clients.kubernetes.client import Kube
from meshproof.core import names
from meshproof.core.errors import Broken
from meshproof.mesh.objects import PodFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Skew:
    """How far a clock is ahead of the runner's, in seconds: minimum and maximum. Negative is behind.

    Clocks have a resolution of a second, and responses are delayed: the true value is in between.
    """

    least_s: float
    most_s: float

    @classmethod
    def of(cls, second: int, *, sent: float, received: float) -> Skew:
        """A clock that returned `second` (Unix time) between two moments of the runner's clock."""
        return cls(least_s=second - received, most_s=second + 1 - sent)

    def problems(self, bound_s: float) -> list[str]:
        """A problem only if the whole range is outside of the bound."""
        if self.least_s > bound_s:
            return [f"at least {self.least_s:.1f} s ahead of the runner"]
        if self.most_s < -bound_s:
            return [f"at least {-self.most_s:.1f} s behind the runner"]
        return []

    def apart(self, other: Skew) -> float:
        """Minimum difference of two clocks in seconds; 0 if they may be equal."""
        return max(0.0, self.least_s - other.most_s, other.least_s - self.most_s)

    def __str__(self) -> str:
        return f"{self.least_s:+.1f} to {self.most_s:+.1f} s"


def server_skew(kube: Kube) -> Skew:
    """From the header `Date` (RFC 9110, 6.6.1)."""
    sent = time.time()
    date = kube.clock()
    received = time.time()
    try:
        second = int(parsedate_to_datetime(date).timestamp())
    except ValueError:
        raise Broken(f"the clock of the API server of {kube.name}", f"Date: {date!r}") from None
    return Skew.of(second, sent=sent, received=received)


def node_skew(kube: Kube, pod: PodFacts) -> Skew:
    """The clock of the node on which a client pod runs: containers have no clock of their own."""
    sent = time.time()
    answer = kube.exec(pod.namespace, pod.name, ["date", "+%s"], container=names.CLIENT_POD)
    received = time.time()
    if not answer.stdout.strip().isdigit():
        raise Broken(f"date in {pod} on {kube.name}", f"{answer.stdout!r} {answer.stderr!r}")
    return Skew.of(int(answer.stdout), sent=sent, received=received)
