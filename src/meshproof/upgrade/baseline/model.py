"""What a record is: parts of configuration by who holds them, and samples of answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

FORMAT = 1
"""Of the file. It grows with every change after which records of before and after would differ by themselves."""

Content = object
"""What a part says, as JSON has it: dictionaries, lists, texts, numbers."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Key:
    """Where a part is: a cluster, a workload in it (`namespace/name`; empty: the cluster itself), kind and name."""

    cluster: str
    workload: str
    kind: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Answers to a fixed number of requests from one source.

    `counts` are by outcome (a version, or an error), `promised` the shares that endpoint weights promise, `latency` how
    many answers took up to so many milliseconds and longer than the bound before it.
    """

    counts: Mapping[str, int]
    promised: Mapping[str, float]
    latency: Mapping[float, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineRecord:
    """A mesh at one moment. `samples` are by source, and empty where nobody was there to ask."""

    mesh: str
    taken: datetime
    parts: Mapping[Key, Content]
    samples: Mapping[str, Sample] = field(default_factory=dict)

    @property
    def istiods(self) -> tuple[str, ...]:
        """The versions of all istiods, each once."""
        told = {
            str(content.get("istio"))
            for key, content in self.parts.items()
            if (key.kind, key.name) == (VERSION, ISTIOD) and isinstance(content, dict)
        }
        return tuple(sorted(told))

    @property
    def holders(self) -> frozenset[tuple[str, str]]:
        """Cluster and workload of everybody who holds something."""
        return frozenset((key.cluster, key.workload) for key in self.parts)


VERSION = "version"
ISTIOD = "istiod"
PROXY = "proxy"
KUBERNETES = "kubernetes"
"""A kind of parts, and the names that it has."""
