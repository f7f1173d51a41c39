"""Compares two records of a mesh: a difference is red unless a rule explains it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from meshproof.core.errors import BadInput
from meshproof.core.versions import Version
from meshproof.upgrade.baseline.diff import Difference, record_differences
from meshproof.upgrade.baseline.expected_changes import RULES
from meshproof.upgrade.baseline.model import BaselineRecord
from meshproof.upgrade.baseline.normalise import without_revision
from meshproof.upgrade.baseline.rule import BaselineRule, explanation
from meshproof.upgrade.baseline.samples import sample_problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """A difference, and the rule that explains it."""

    difference: Difference
    rule: BaselineRule


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineComparison:
    """Differences between two records; good if none is unexplained."""

    before: BaselineRecord
    after: BaselineRecord
    from_version: str
    to_version: str
    explained: tuple[Explained, ...]
    unexplained: tuple[Difference, ...]

    @property
    def equal(self) -> bool:
        """Whether there is no difference at all."""
        return not self.explained and not self.unexplained


def compare_records(
    before: BaselineRecord,
    after: BaselineRecord,
    *,
    from_version: str = "",
    to_version: str = "",
    rules: Sequence[BaselineRule] = RULES,
) -> BaselineComparison:
    """Compare records; versions default to those of the istiods. Raises `BadInput` for records of different meshes."""
    if before.mesh != after.mesh:
        raise BadInput(
            f"records of {before.mesh} and {after.mesh}",
            "they are of different meshes",
            "compare records of the same mesh",
        )
    old, new = from_version or _version(before), to_version or _version(after)
    explained, unexplained = [], []
    found = record_differences(without_revision(before), without_revision(after))
    for difference in [*found, *_of_samples(before, after)]:
        rule = explanation(difference, old, new, rules)
        if rule is None:
            unexplained.append(difference)
        else:
            explained.append(Explained(difference=difference, rule=rule))
    return BaselineComparison(
        before=before,
        after=after,
        from_version=old,
        to_version=new,
        explained=tuple(explained),
        unexplained=tuple(unexplained),
    )


def _version(record: BaselineRecord) -> str:
    """The newest version of its istiods, without the build suffix."""
    return max(record.istiods, key=lambda text: Version.parse(text) or Version(0, 0), default="").partition("-")[0]


def _of_samples(before: BaselineRecord, after: BaselineRecord) -> list[Difference]:
    """Differences of samples, for sources that both records have."""
    return [
        Difference(places=(source,), kind="answers", name="sample", path=what, before=was, after=now)
        for source in sorted(before.samples.keys() & after.samples.keys())
        for what, was, now in sample_problems(before.samples[source], after.samples[source])
    ]
