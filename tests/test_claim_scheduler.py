"""The scheduler of concurrent claims: who runs beside whom, what each comes to, and what it may write."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError

import pytest

from meshproof.claims.claim import Isolation
from meshproof.claims.job import Job, require_config_pushes
from meshproof.claims.scheduler import Scheduler
from meshproof.clients.kubernetes.config_pushes import makes_istiod_push
from meshproof.clients.kubernetes.manifests import core, metadata
from meshproof.core.concurrency import together
from meshproof.core.errors import Broken, ClaimFailed
from tests.fakes import LocalKube


def test_jobs_run_at_the_same_time() -> None:
    meeting = threading.Barrier(3, timeout=10)
    jobs = [Job(str(n), lambda: _arrive(meeting)) for n in range(3)]
    with Scheduler(jobs):
        for job in jobs:
            job.result()


def _arrive(meeting: threading.Barrier) -> None:
    meeting.wait()


def test_exclusive_jobs_run_alone_and_first() -> None:
    running: set[str] = set()
    company: dict[str, set[str]] = {}
    order: list[str] = []
    lock = threading.Lock()

    def job(name: str, isolation: Isolation = Isolation.SHARED) -> Job:
        def work() -> None:
            with lock:
                running.add(name)
                order.append(name)
            threading.Event().wait(0.02)
            with lock:
                company[name] = running - {name}
                running.discard(name)

        return Job(name, work, isolation=isolation)

    jobs = [job("a"), job("first", Isolation.EXCLUSIVE), job("b"), job("second", Isolation.EXCLUSIVE)]
    with Scheduler(jobs):
        for each in jobs:
            each.result()
    assert set(order[:2]) == {"first", "second"}
    assert company["first"] == company["second"] == set()


def test_each_result_is_its_own_and_takes_its_own_time() -> None:
    def fail() -> None:
        threading.Event().wait(0.05)
        raise ClaimFailed("two roots")

    bad, good = Job("bad", fail, isolation=Isolation.EXCLUSIVE), Job("good", lambda: None)
    with Scheduler([bad, good]):
        good.result()
        with pytest.raises(ClaimFailed, match="two roots"):
            bad.result()
    assert bad.seconds >= 0.05
    assert good.seconds < 0.05, "its waiting for the other does not count"


def test_leaving_early_drops_what_has_not_begun_and_waits_for_the_rest() -> None:
    begun, release, ended = threading.Event(), threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        release.wait(10)
        ended.set()

    late = Job("late", lambda: None)
    with Scheduler([Job("slow", slow), late], width=1):
        begun.wait(10)
        threading.Timer(0.05, release.set).start()
    assert ended.is_set()
    with pytest.raises(CancelledError):
        late.result()


def test_who_pushes_waits_for_who_cannot_bear_pushes_even_if_that_fails() -> None:
    order: list[str] = []

    def look() -> None:
        threading.Event().wait(0.05)
        order.append("look")
        raise ClaimFailed("out of sync")

    push = Job("push", lambda: order.append("push"), isolation=Isolation.PUSHES_CONFIG)
    jobs = [
        push,
        Job("look", look, isolation=Isolation.BEFORE_CONFIG_PUSHES),
        Job("shared", lambda: order.append("shared")),
    ]
    with Scheduler(jobs, before_pushes=lambda: order.append("may push")):
        push.result()
    assert order == ["shared", "look", "may push", "push"]


# -- deadlines --------------------------------------------------------------------------------------------------------


@pytest.fixture
def never() -> Iterator[threading.Event]:
    """An event that is set when the test is over, so that what hangs on it ends."""
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.parametrize("isolation", [Isolation.EXCLUSIVE, Isolation.BEFORE_CONFIG_PUSHES])
def test_a_job_that_hangs_ends_broken_at_its_deadline_and_the_others_go_on(
    never: threading.Event, isolation: Isolation
) -> None:
    def hang_here() -> None:
        never.wait()

    stuck = Job("TRUST-01", hang_here, isolation=isolation, deadline_s=0.2)
    other = Job("TRUST-02", lambda: None, isolation=Isolation.PUSHES_CONFIG)
    with Scheduler([stuck, other], width=1) as scheduler:
        other.result()
        with pytest.raises(Broken) as caught:
            stuck.result()
    assert scheduler.done
    assert caught.value.what == "TRUST-01 did not end within 0.2 s"
    assert caught.value.reason.startswith("it was doing ")
    assert "hang_here (tests/test_claim_scheduler.py:" in caught.value.reason
    assert 0.2 <= stuck.seconds < 5


def test_what_a_job_was_doing_is_found_in_the_threads_that_it_waits_for(never: threading.Event) -> None:
    def hang_there(number: int) -> None:
        if number:
            never.wait()

    stuck = Job("TRUST-01", lambda: _nothing(together(hang_there, range(2))), deadline_s=0.2)
    with Scheduler([stuck]), pytest.raises(Broken) as caught:
        stuck.result()
    assert "hang_there (tests/test_claim_scheduler.py:" in caught.value.reason
    assert "<lambda>" not in caught.value.reason


def _nothing(_: object) -> None:
    pass


# -- what makes istiod push -------------------------------------------------------------------------------------------

SERVICE = core("Service", metadata("shop", "ours"), spec={})


def in_job(work: Callable[[], object], isolation: Isolation) -> None:
    job = Job("TRUST-01", lambda: _nothing(work()), isolation=isolation)
    with Scheduler([job]):
        job.result()


@pytest.mark.parametrize("isolation", [each for each in Isolation if each is not Isolation.PUSHES_CONFIG])
@pytest.mark.parametrize(
    ("what", "write"),
    [
        ("PATCH /api/v1/namespaces/ours/services/shop", lambda kube: kube.apply(SERVICE)),
        ("POST /api/v1/namespaces/ours/services", lambda kube: together(kube.create, [SERVICE])),
        ("DELETE /api/v1/namespaces/ours/services/shop", lambda kube: kube.delete("Service", "shop", "ours")),
        (
            "PATCH /apis/networking.istio.io/v1/namespaces/ours/sidecars/all",
            lambda kube: kube.merge_patch("Sidecar", "all", {}, "ours"),
        ),
    ],
    ids=["apply", "create in a thread of its own", "delete", "patch"],
)
def test_a_claim_that_pushes_without_declaring_it_is_broken_at_once(
    isolation: Isolation, what: str, write: Callable[[LocalKube], object]
) -> None:
    with pytest.raises(Broken) as caught:
        in_job(lambda: write(LocalKube("east")), isolation)
    assert str(caught.value) == (
        f"TRUST-01: {what} on east: istiod pushes this to proxies while other claims look at them, and the claim does "
        "not declare it\n"
        "  repair: declare isolation=Isolation.PUSHES_CONFIG in its @claim"
    )


def test_a_claim_cannot_swallow_that() -> None:
    def quietly() -> None:
        try:
            LocalKube("east").apply(SERVICE)
        except Broken:
            raise ClaimFailed("something else") from None

    with pytest.raises(Broken, match="the claim does not declare it"):
        in_job(quietly, Isolation.SHARED)


def test_who_declares_it_may_push_and_so_may_all_that_is_no_concurrent_claim() -> None:
    in_job(lambda: require_config_pushes("a push"), Isolation.PUSHES_CONFIG)
    require_config_pushes("a push")


def test_after_its_deadline_a_claim_may_only_remove(never: threading.Event) -> None:
    refused: list[str] = []
    tried = threading.Event()

    def late() -> None:
        never.wait()
        require_config_pushes("DELETE", removes=True)
        try:
            require_config_pushes("PATCH")
        except Broken as problem:
            refused.append(str(problem))
        tried.set()

    job = Job("TRUST-01", late, isolation=Isolation.PUSHES_CONFIG, deadline_s=0.05)
    with Scheduler([job]), pytest.raises(Broken):
        job.result()
    never.set()
    assert tried.wait(10)
    assert refused == ["TRUST-01: PATCH: the claim's deadline is over, so it may only remove what it has made"]


@pytest.mark.parametrize(
    ("pushed", "method", "path"),
    [
        (True, "POST", "/api/v1/namespaces"),
        (True, "DELETE", "/api/v1/namespaces/ours"),
        (True, "POST", "/api/v1/namespaces/ours/pods"),
        (True, "PATCH", "/apis/discovery.k8s.io/v1/namespaces/ours/endpointslices/shop-1"),
        (True, "PATCH", "/apis/apps/v1/namespaces/ours/deployments/shop/scale"),
        (True, "POST", "/apis/security.istio.io/v1/namespaces/ours/peerauthentications"),
        (True, "POST", "/apis/gateway.networking.k8s.io/v1/namespaces/ours/httproutes"),
        (True, "PATCH", "/api/v1/namespaces/istio-system/configmaps/istio"),
        (False, "PATCH", "/api/v1/namespaces/ours/configmaps/istio"),
        (False, "GET", "/api/v1/namespaces/ours/pods"),
        (False, "POST", "/api/v1/namespaces/ours/serviceaccounts/default/token"),
        (False, "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"),
        (False, "GET", "/version"),
    ],
)
def test_what_makes_istiod_push(pushed: bool, method: str, path: str) -> None:
    assert makes_istiod_push(method, path, {}) is pushed
    assert not makes_istiod_push(method, path, {"dryRun": "All"})


def test_the_scheduler_ends_only_when_what_precedes_pushes_has_returned() -> None:
    """Else what it makes could come after the end, when nobody removes it."""
    made: list[str] = []

    def before_pushes() -> None:
        threading.Event().wait(0.2)
        made.append("test bed")

    job = Job("quiet", lambda: None, isolation=Isolation.BEFORE_CONFIG_PUSHES)
    with Scheduler([job], before_pushes=before_pushes) as scheduler:
        job.result()
        assert not scheduler.done
    assert made == ["test bed"]
