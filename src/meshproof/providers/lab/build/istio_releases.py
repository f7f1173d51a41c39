"""The releases of Istio that the lab can build, each a folder with a pinned `go.mod`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from meshproof.core.errors import BadInput, Broken
from meshproof.core.versions import Version

MODULES: Final = Path(__file__).parents[1] / "modules"

ISTIO_PROGRAMS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "pilot-discovery": "istio.io/istio/pilot/cmd/pilot-discovery",
        "pilot-agent": "istio.io/istio/pilot/cmd/pilot-agent",
        "istioctl": "istio.io/istio/istioctl/cmd/istioctl",
    }
)
"""Program -> Go package."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A release of Istio: its number, and the folder of its Go modules.

    `programs` are all that are built there, three of them Istio's; `minutes` is the approximate build time on two
    cores the first time, `holds` a description of the contents.
    """

    number: str
    folder: Path
    programs: Mapping[str, str] = field(hash=False)
    minutes: int
    holds: str

    @property
    def commit(self) -> str:
        """The twelve digits of the Istio commit that `go.mod` pins."""
        pinned = re.search(
            r"istio\.io/istio v\d+\.\d+\.\d+-\d{14}-([0-9a-f]{12})", (self.folder / "go.mod").read_text()
        )
        if not pinned:
            raise Broken(f"{self.folder}/go.mod", "does not pin istio.io/istio to a commit", "restore it from git")
        return pinned[1]

    @property
    def version(self) -> str:
        """What our builds report as their version, which names their commit: `1.31.0-<commit>`."""
        return f"{self.number}-{self.commit}"

    def __str__(self) -> str:
        return self.number


OLDER: Final = Release(
    number="1.30.4", folder=MODULES / "istio-1.30", programs=ISTIO_PROGRAMS, minutes=4, holds="Istio 1.30.4"
)
CURRENT: Final = Release(
    number="1.31.0",
    folder=MODULES / "lab",
    programs=MappingProxyType(
        {
            "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
            "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
            "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
            "kubelet": "k8s.io/kubernetes/cmd/kubelet",
            "kube-proxy": "k8s.io/kubernetes/cmd/kube-proxy",
            **ISTIO_PROGRAMS,
            "coredns": "./cmd/coredns",
        }
    ),
    minutes=8,
    holds="Kubernetes 1.36.1 and Istio 1.31.0",
)
"""The one that is installed by default. Kubernetes and CoreDNS of the lab are built with it, from one
module set, so that shared packages are compiled once."""
RELEASES: Final = (OLDER, CURRENT)
"""Oldest first."""


def find_release(text: str) -> Release | None:
    """The release that `1.30`, `1.30.4` or `v1.30.4-<commit>` means, or None if the lab does not have it."""
    wanted = text.removeprefix("v")
    return next((r for r in RELEASES if wanted in (r.number, r.version, str(Version.parse(r.number)))), None)


def release_of(text: str, option: str) -> Release:
    """The same. Raises `BadInput` with the option and the available releases."""
    found = find_release(text)
    if found is None:
        known = ", ".join(map(str, RELEASES))
        raise BadInput(f"{option}={text}", "the lab cannot build that release of Istio", f"use one of {known}")
    return found


def before(release: Release) -> Release | None:
    """The newest release of an older minor version, from which to upgrade to `release`."""
    target = Version.parse(release.number)
    older = [r for r in RELEASES if target and (own := Version.parse(r.number)) and own < target]
    return older[-1] if older else None
