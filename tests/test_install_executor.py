"""The runner of plans: order, parallelism, the first failure, and undoing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NoReturn

import pytest

from meshproof.core.errors import Aborted, NotReady
from meshproof.core.progress import LineNarrator, Silent
from meshproof.install import executor as runner
from meshproof.install.executor import InstallStep, StepFailed, in_order, run_plan, undo_of


def step(
    name: str, *needs: str, run: Callable[[], None] | None = None, undo: Callable[[], None] | None = None
) -> InstallStep:
    return InstallStep(name=name, needs=needs, run=run or (lambda: None), undo=undo)


def test_a_step_begins_when_all_that_it_needs_is_done() -> None:
    seen: list[str] = []
    plan = [
        step("roof", "walls", "beams", run=lambda: seen.append("roof")),
        step("walls", "ground", run=lambda: seen.append("walls")),
        step("beams", "ground", run=lambda: seen.append("beams")),
        step("ground", run=lambda: seen.append("ground")),
    ]
    times = run_plan(plan, Silent())
    assert seen[0] == "ground"
    assert seen[-1] == "roof"
    assert times.keys() == {"ground", "walls", "beams", "roof"}


def test_steps_that_do_not_need_each_other_run_at_once() -> None:
    meeting = threading.Barrier(3)
    run_plan([step(name, run=lambda: met(meeting)) for name in "abc"], Silent())


def met(meeting: threading.Barrier) -> None:
    meeting.wait(timeout=5)


def test_the_first_failure_names_its_step_and_no_further_step_begins() -> None:
    begun: list[str] = []

    def fails() -> None:
        raise NotReady("istiod", "no answer")

    plan = [step("istiod", run=fails), step("gateways", "istiod", run=lambda: begun.append("gateways"))]
    with pytest.raises(StepFailed) as caught:
        run_plan(plan, Silent())
    assert str(caught.value) == "step 'istiod': istiod: no answer"
    assert isinstance(caught.value.__cause__, NotReady)
    assert caught.value.__notes__ == ["not begun: gateways"]
    assert begun == []


def test_a_failure_lets_waiting_steps_give_up() -> None:
    aborted = threading.Event()
    waits = threading.Event()

    def gives_up() -> None:
        waits.set()
        assert aborted.wait(timeout=5)
        raise Aborted("waiting", "given up")

    def fails() -> None:
        assert waits.wait(timeout=5)
        raise RuntimeError("broken")

    with pytest.raises(StepFailed, match="step 'fails': broken") as caught:
        run_plan([step("waits", run=gives_up), step("fails", run=fails)], Silent(), aborted=aborted)
    assert not hasattr(caught.value, "__notes__")


def test_a_second_failure_is_told_too() -> None:
    meeting = threading.Barrier(2)

    def fails() -> None:
        met(meeting)
        raise RuntimeError("broken")

    with pytest.raises(StepFailed) as caught:
        run_plan([step("a", run=fails), step("b", run=fails)], Silent())
    (note,) = caught.value.__notes__
    assert note in {"step 'a' failed too: broken", "step 'b' failed too: broken"}


def test_an_interrupt_lets_waiting_steps_give_up(monkeypatch: pytest.MonkeyPatch) -> None:
    aborted = threading.Event()

    def interrupted(*_: object, **__: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_plan([step("waits", run=lambda: gave_up(aborted))], Silent(), aborted=aborted)


def gave_up(aborted: threading.Event) -> None:
    assert aborted.wait(timeout=5)


def test_each_step_is_told_in_one_line_with_its_end() -> None:
    lines: list[str] = []

    def fails() -> None:
        raise RuntimeError("broken")

    with pytest.raises(StepFailed):
        run_plan([step("istiod in east"), step("gateways", "istiod in east", run=fails)], LineNarrator(lines.append))
    assert [line.partition("s  +")[2][9:] for line in lines] == ["istiod in east", "gateways  FAILED"]


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        ([step("a"), step("a")], "several steps are called a"),
        ([step("a", "b")], "step 'a' needs unknown steps: b"),
        ([step("a", "b"), step("b", "a"), step("c")], "the plan has a cycle: a, b"),
    ],
)
def test_a_plan_that_cannot_work_is_refused_before_it_begins(plan: list[InstallStep], reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}$"):
        in_order(plan)


def test_undoing_turns_the_order_round_over_steps_that_leave_nothing() -> None:
    def undo() -> None: ...

    plan = [
        step("ground", undo=undo),
        step("cellar", "ground"),
        step("roof", "cellar", undo=undo),
        step("garden", undo=undo),
    ]
    undone = {found.name: found.needs for found in undo_of(plan)}
    assert undone == {"undo roof": (), "undo garden": (), "undo ground": ("undo roof",)}
