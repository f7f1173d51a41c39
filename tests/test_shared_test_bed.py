"""The test bed that concurrent claims share: made once, whoever comes first, and gone before anything else runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from meshproof.claims.claim import Isolation
from meshproof.claims.job import Job, require_config_pushes
from meshproof.claims.scheduler import Scheduler
from meshproof.core.concurrency import Pool
from meshproof.core.errors import Broken
from meshproof.mesh.handles import Mesh
from meshproof.workloads.testbed import shared
from meshproof.workloads.testbed.shared import SharedTestBed
from tests.fakes import mesh_of


class FakePods:
    namespace = "meshproof-testbed-1"

    def test_bed(self) -> str:
        return "the test bed"


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was made and taken down; making it pushes, in a thread of its own."""
    events: list[str] = []

    @contextmanager
    def fake(mesh: Mesh) -> Iterator[FakePods]:
        with Pool(1, name="test-bed") as pool:
            pool.submit(require_config_pushes, "makes the test bed").result()
        events.append("made")
        yield FakePods()
        events.append("taken down")

    monkeypatch.setattr(shared, "fresh_pods", fake)
    return events


@pytest.fixture
def bed(log: list[str]) -> SharedTestBed:
    return SharedTestBed(mesh_of("multi-primary-samenet"))


def prove(use: Callable[[], object], isolation: Isolation, **options: Any) -> object:
    found: list[object] = []
    job = Job("TRAFFIC-01", lambda: found.append(use()), isolation=isolation)
    with Scheduler([job], **options):
        job.result()
    return found[0]


def test_it_is_made_once_for_all_claims_and_taken_down_once(bed: SharedTestBed, log: list[str]) -> None:
    assert log == []
    for _ in range(2):
        assert prove(bed.test_bed, Isolation.PUSHES_CONFIG) == "the test bed"
    assert isinstance(prove(bed.fresh_pods, Isolation.PUSHES_CONFIG), FakePods)
    assert log == ["made"]
    bed.close()
    bed.close()
    assert log == ["made", "taken down"]


def test_who_has_not_declared_pushes_does_not_get_it(bed: SharedTestBed, log: list[str]) -> None:
    for use in (bed.test_bed, bed.fresh_pods):
        with pytest.raises(Broken, match=r"shared test bed: istiod pushes this .*\n  repair: declare isolation="):
            prove(use, Isolation.SHARED)
    assert log == []


def test_it_belongs_to_no_claim_so_it_is_made_after_one_that_may_not_push(bed: SharedTestBed, log: list[str]) -> None:
    """The scheduler begins it in the thread of the last claim that could bear no push."""
    prove(lambda: None, Isolation.BEFORE_CONFIG_PUSHES, before_pushes=bed.start)
    assert log == ["made"]


def test_a_claim_that_comes_too_late_makes_no_second_one(bed: SharedTestBed, log: list[str]) -> None:
    bed.close()
    with pytest.raises(Broken, match="it is already deleted: all concurrent claims have ended"):
        bed.start()
    assert log == []


def test_its_removal_is_awaited_once_in_every_cluster(bed: SharedTestBed, monkeypatch: pytest.MonkeyPatch) -> None:
    awaited: list[tuple[str, str]] = []

    def note(namespace: str, cluster: object) -> None:
        awaited.append((namespace, str(cluster)))

    monkeypatch.setattr(shared, "_await_removal", note)
    bed.await_removal()
    assert awaited == [], "it was never made"
    bed.start()
    bed.close()
    bed.await_removal()
    bed.await_removal()
    assert sorted(awaited) == [("meshproof-testbed-1", "cluster1"), ("meshproof-testbed-1", "cluster2")]
