"""Versions of Istio, and the target version of an upgrade."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from meshproof.core.errors import BadInput, Broken

_TARGET: Final = re.compile(r"v?(\d+\.\d+)(?:\.(\d+))?(-[\w.-]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeTarget:
    """The target version as given, and its major and minor version: patch releases of one minor behave alike."""

    text: str
    version: Version

    @property
    def reported_by_proxies(self) -> str:
        """The version that its proxies report to istiod."""
        found = _TARGET.fullmatch(self.text)
        assert found is not None
        return f"{found[1]}.{found[2] or 0}"

    def __str__(self) -> str:
        return self.text


def parse_target(text: str, flag: str = "--to") -> UpgradeTarget:
    """From `1.31`, `1.31.2` or `v1.31.0-rc.1`. Raises `BadInput` that names `flag` if it is invalid."""
    version = Version.parse(text) if _TARGET.fullmatch(text.strip()) else None
    if version is None or version.major != 1:
        raise BadInput(f"{flag}={text}", "not a version of Istio", "write it as 1.31 or 1.31.2")
    return UpgradeTarget(text=text.strip().removeprefix("v"), version=version)


_VERSION: Final = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?(?:[-+.].*)?")


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """Major and minor version; patch releases of one minor are equal."""

    major: int
    minor: int

    @classmethod
    def parse(cls, text: str) -> Version | None:
        """From `1.31.0`, `v1.30.4-distroless` or `1.31-alpha.<commit>`; None if it is invalid."""
        found = _VERSION.fullmatch(text.strip())
        return cls(int(found[1]), int(found[2])) if found else None

    def ahead_of(self, other: Version) -> int | None:
        """The difference in minor versions; None if the major versions differ."""
        return self.minor - other.minor if self.major == other.major else None

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


def next_release(text: str) -> str:
    """The next minor version, the furthest that an in-place upgrade may go. Raises `Broken` if `text` is not a
    version."""
    version = Version.parse(text)
    if version is None:
        raise Broken(f"Istio {text}", "not a version, so the next release is unknown", "name the target version")
    return str(Version(version.major, version.minor + 1))
