"""What an upgrade check has read: frozen, without secrets, and with what could not be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

from meshproof.clients.kubernetes.rbac import AccessRule as Right
from meshproof.core.versions import Version


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Withheld:
    """Something that could not be read, and why."""

    where: str
    what: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Istiod:
    """One Deployment of istiod. `version` is what its pod says, or the tag of its image if that cannot be asked."""

    name: str
    revision: str
    version: str
    image: str
    env: Mapping[str, str] = field(default_factory=_nothing)
    compatibility: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """A proxy that is connected to an istiod, with both versions."""

    where: str
    version: str
    istiod: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Crd:
    """A CustomResourceDefinition of Istio or of the Gateway API.

    `stored` are the versions in which objects may lie in etcd; `bundle` is the Gateway API release that it comes from.
    `in_use` tells whether there is an object of it; None if nobody looked, or might not.
    """

    name: str
    served: frozenset[str]
    stored: frozenset[str]
    bundle: str = ""
    in_use: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """A configuration of admission webhooks of Istio, and the Services of its cluster that it dials."""

    name: str
    revision: str
    tag: str
    services: tuple[str, ...]
    injects: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """A namespace that says which revision or tag injects its pods; `revision` is the value of its label."""

    name: str
    revision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A pod that says which revision or tag is to inject it (its label), or which one has (its annotation)."""

    name: str
    wants: str = ""
    has: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """One patch of an EnvoyFilter. `version` is the expression that a proxy's version must match; empty for all.

    `untyped` are extensions that it names without a `typed_config`, `old_types` type URLs of Envoy's API v2.
    """

    filter: str
    kind: str
    version: str
    untyped: tuple[str, ...] = ()
    old_types: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """The account by which other clusters' istiods read this one, and what all roles that are bound to it allow."""

    account: str
    rights: tuple[Right, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """A credential that ends. `token` tells that it is one of a remote secret, and no certificate."""

    what: str
    ends: datetime
    token: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSeen:
    """One cluster. `readers` are the other clusters whose istiods read it; `configured` names configuration by what it
    uses (`outlierDetection`, `mirror`), and `annotated` pods by an annotation of Istio's. `reader` is None if it could
    not be read, or if nobody reads the cluster.
    """

    name: str
    is_primary: bool
    readers: tuple[str, ...]
    kubernetes: str
    istiods: tuple[Istiod, ...] = ()
    crds: tuple[Crd, ...] = ()
    hooks: tuple[Hook, ...] = ()
    services: frozenset[str] = frozenset()
    alive: frozenset[str] = frozenset()
    namespaces: tuple[Namespace, ...] = ()
    members: tuple[Member, ...] = ()
    patches: tuple[Patch, ...] = ()
    configured: Mapping[str, tuple[str, ...]] = field(default_factory=_nothing)
    annotated: Mapping[str, tuple[str, ...]] = field(default_factory=_nothing)
    reader: Reader | None = None
    endings: tuple[Ending, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The whole mesh at one moment."""

    now: datetime
    clusters: tuple[ClusterSeen, ...]
    proxies: tuple[Proxy, ...] = ()
    withheld: tuple[Withheld, ...] = ()

    @property
    def istiods(self) -> tuple[tuple[ClusterSeen, Istiod], ...]:
        return tuple((cluster, istiod) for cluster in self.clusters for istiod in cluster.istiods)

    @property
    def oldest(self) -> Version | None:
        """The version of the istiod from which the way is longest; None if none tells its version."""
        found = [version for _, istiod in self.istiods if (version := Version.parse(istiod.version))]
        return min(found, default=None)
