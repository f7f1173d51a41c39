"""Compares two records of a mesh: a difference is red unless a rule explains it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from meshproof.core.errors import BadInput
from meshproof.core.versions import Version
from meshproof.upgrade.baseline.diff import Difference, record_differences
from meshproof.upgrade.baseline.expected_changes import RULES
from meshproof.upgrade.baseline.model import ISTIOD, VERSION, BaselineRecord
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
    """Differences between two records; good if none is unexplained and there are no gaps.

    `gaps` are what should be compared and is in one record only, or in none.
    """

    before: BaselineRecord
    after: BaselineRecord
    from_version: str
    to_version: str
    explained: tuple[Explained, ...]
    unexplained: tuple[Difference, ...]
    gaps: tuple[str, ...] = ()

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
    traffic: bool = True,
    rules: Sequence[BaselineRule] = RULES,
) -> BaselineComparison:
    """Compare records; versions default to those of the istiods. Without `traffic` responses are not compared.

    Raises `BadInput` for records of different meshes.
    """
    if before.mesh != after.mesh:
        raise BadInput(
            f"records of {before.mesh} and {after.mesh}",
            "they are of different meshes",
            "compare records of the same mesh",
        )
    old, new = from_version or _version(before), to_version or _version(after)
    explained, unexplained = [], []
    found = record_differences(without_revision(before), without_revision(after))
    for difference in [*found, *(_of_samples(before, after) if traffic else ())]:
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
        gaps=tuple(gaps(before, after, traffic=traffic)),
    )


def gaps(before: BaselineRecord, after: BaselineRecord, *, traffic: bool = True) -> Iterator[str]:
    """Records without a control plane or without a proxy are equal whatever the mesh does."""
    for which, record in (("before", before), ("after", after)):
        istiods = {(key.cluster, key.workload) for key in record.parts if (key.kind, key.name) == (VERSION, ISTIOD)}
        if not istiods:
            yield f"the record {which} has no istiod"
        if not any(workload for cluster, workload in record.holders - istiods):
            yield f"the record {which} has no proxy"
    if traffic and (sources := sorted(before.samples.keys() - after.samples.keys())):
        yield f"the record after has no requests from {', '.join(sources)} (--no-traffic: do not compare requests)"


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
