"""Rules that explain differences of records after an upgrade, each with its source.

No rule matches everything: each names a kind, a path, and the value before or after.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from meshproof.core.versions import Version
from meshproof.upgrade.baseline.diff import Difference
from meshproof.upgrade.baseline.normalise import canonical

ANY: Final = "(?s:.*)"
NOTHING: Final = ""
"""The text of an absent value."""
OLD: Final = "{from}"
NEW: Final = "{to}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineRule:
    """One explanation. Patterns are regular expressions that must match all of a text.

    `before` and `after` match values as JSON, absent values as an empty text; `{from}` and `{to}` stand for the
    versions of the upgrade. `since` is the release with the change: the rule applies to upgrades to it or past it.
    None: the change comes from any new installation.
    """

    id: str
    sentence: str
    source: str
    kind: str
    path: str
    before: str
    after: str
    name: str = ANY
    since: Version | None = None

    def applies(self, from_version: str, to_version: str) -> bool:
        """Whether this upgrade passes the release; an unchanged version explains no change of version."""
        if self.since is None:
            return from_version != to_version or OLD not in self.before
        old, new = Version.parse(from_version), Version.parse(to_version)
        return old is not None and new is not None and old < self.since <= new

    def explains(self, difference: Difference, from_version: str, to_version: str) -> bool:
        """Whether the rule matches the difference; does not check `applies`."""
        pairs = (
            (self.kind, difference.kind),
            (self.name, difference.name),
            (self.path, difference.path),
            (self.before, value_text(difference.before)),
            (self.after, value_text(difference.after)),
        )
        versions = {OLD: version_pattern(from_version), NEW: version_pattern(to_version)}
        return all(re.fullmatch(_filled(pattern, versions), text) for pattern, text in pairs)


def _filled(pattern: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        pattern = pattern.replace(name, value)
    return pattern


def version_pattern(version: str) -> str:
    """A pattern for a version and all its builds: `1.31.0` matches `1.31.0-<commit>`."""
    return re.escape(version) + r'(?:[-+.][^"]*)?'


def value_text(value: object) -> str:
    """The text that patterns match."""
    return NOTHING if value is None else canonical(value)


def explanation(
    difference: Difference, from_version: str, to_version: str, rules: Sequence[BaselineRule]
) -> BaselineRule | None:
    """The first rule that explains the difference."""
    return next(
        (
            rule
            for rule in rules
            if rule.applies(from_version, to_version) and rule.explains(difference, from_version, to_version)
        ),
        None,
    )
