"""The version of Istio that a mesh is to be upgraded to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from meshproof.controlplane.versions import Version
from meshproof.core.errors import BadInput

_TARGET: Final = re.compile(r"v?(\d+\.\d+)(?:\.(\d+))?(-[\w.-]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """As it was named, and its major and minor version: patch releases of one minor behave alike."""

    text: str
    version: Version

    @property
    def proxies_say(self) -> str:
        """What its proxies tell istiod of their version."""
        found = _TARGET.fullmatch(self.text)
        assert found is not None
        return f"{found[1]}.{found[2] or 0}"

    def __str__(self) -> str:
        return self.text


def parse_target(text: str, flag: str = "--to") -> Target:
    """From `1.31`, `1.31.2` or `v1.31.0-rc.1`. Raises `BadInput` that names `flag` if it is none."""
    version = Version.parse(text) if _TARGET.fullmatch(text.strip()) else None
    if version is None or version.major != 1:
        raise BadInput(f"{flag}={text}", "that is no version of Istio", "write it as 1.31 or 1.31.2")
    return Target(text=text.strip().removeprefix("v"), version=version)
