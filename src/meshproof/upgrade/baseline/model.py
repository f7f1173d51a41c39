"""The data of a record: parts of configuration by holder, and samples of responses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

FORMAT = 1
"""File format version. Increased when equal meshes would otherwise get different records."""

Content = object
"""The content of a part as JSON data: dictionaries, lists, texts, numbers."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Key:
    """The location of a part: cluster, workload (`namespace/name`; empty: the cluster itself), kind and name."""

    cluster: str
    workload: str
    kind: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Responses to a fixed number of requests from one source.

    `counts` are by outcome (a version, or an error), `promised` the shares by endpoint weights, `latency` a histogram:
    the number of responses by upper bound in milliseconds.
    """

    counts: Mapping[str, int]
    promised: Mapping[str, float]
    latency: Mapping[float, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineRecord:
    """The state of a mesh at one moment. `samples` are by source; empty without client pods."""

    mesh: str
    taken: datetime
    parts: Mapping[Key, Content]
    samples: Mapping[str, Sample] = field(default_factory=dict)

    @property
    def istiods(self) -> tuple[str, ...]:
        """The versions of all istiods, each once."""
        versions = {
            str(content.get("istio"))
            for key, content in self.parts.items()
            if (key.kind, key.name) == (VERSION, ISTIOD) and isinstance(content, dict)
        }
        return tuple(sorted(versions))

    @property
    def holders(self) -> frozenset[tuple[str, str]]:
        """Cluster and workload of all holders of parts."""
        return frozenset((key.cluster, key.workload) for key in self.parts)


VERSION = "version"
ISTIOD = "istiod"
PROXY = "proxy"
KUBERNETES = "kubernetes"
"""The kind of version parts, and their names."""
