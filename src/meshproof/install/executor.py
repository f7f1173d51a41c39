"""Runs a plan: every step as soon as the steps that it needs are done, in parallel, until the first failure."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from meshproof.core.errors import Aborted, Broken
from meshproof.core.model import ClusterName
from meshproof.core.progress import Narrator

WORKERS = 32
"""Steps mostly wait for a cluster, so there are many more threads than cores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallStep:
    """One step of a plan. `needs` are the names of the steps that must be done before; `cluster` is where it runs."""

    name: str
    cluster: ClusterName | None = None
    needs: tuple[str, ...] = ()
    run: Callable[[], None] = field(repr=False)
    undo: Callable[[], None] | None = field(default=None, repr=False)


class StepFailed(Broken):
    """A step of a plan failed; `__cause__` is its error, and steps that had not begun were cancelled."""

    def __init__(self, step: InstallStep, reason: str) -> None:
        self.step = step
        super().__init__(f"step '{step.name}'", reason)


def in_order(plan: Sequence[InstallStep]) -> tuple[InstallStep, ...]:
    """The steps in topological order, otherwise in the plan's order.

    Raises `ValueError` if a name occurs twice, is needed but unknown, or if there is a cycle.
    """
    names = [step.name for step in plan]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"several steps are called {', '.join(twice)}")
    for step in plan:
        if unknown := set(step.needs) - set(names):
            raise ValueError(f"step '{step.name}' needs unknown steps: {', '.join(sorted(unknown))}")
    ordered: list[InstallStep] = []
    done: set[str] = set()
    left = list(plan)
    while left:
        ready = [step for step in left if done.issuperset(step.needs)]
        if not ready:
            raise ValueError(f"the plan has a cycle: {', '.join(step.name for step in left)}")
        ordered.append(ready[0])
        done.add(ready[0].name)
        left.remove(ready[0])
    return tuple(ordered)


def undo_of(plan: Sequence[InstallStep]) -> tuple[InstallStep, ...]:
    """The plan that undoes `plan`: a step is undone after all that needed it, directly or not."""
    ordered = in_order(plan)
    above: dict[str, set[str]] = {}
    for step in ordered:
        above[step.name] = set(step.needs).union(*(above[name] for name in step.needs))
    undoable = [step for step in reversed(ordered) if step.undo is not None]
    return tuple(
        InstallStep(
            name=f"undo {step.name}",
            cluster=step.cluster,
            needs=tuple(f"undo {other.name}" for other in undoable if step.name in above[other.name]),
            run=step.undo,
        )
        for step in undoable
        if step.undo is not None
    )


def run_plan(
    plan: Sequence[InstallStep],
    narrator: Narrator,
    *,
    aborted: threading.Event | None = None,
    workers: int = WORKERS,
) -> dict[str, float]:
    """Run all steps and return the seconds that each took, by name.

    At the first failure no further step begins, `aborted` is set so that waiting steps can give up, running steps
    are awaited, and `StepFailed` is raised. An interrupt ends a plan in the same way.
    """
    ordered = in_order(plan)
    stop = aborted or threading.Event()
    done: dict[str, float] = {}
    waiting = list(ordered)
    running: dict[Future[float], InstallStep] = {}
    failures: list[tuple[InstallStep, BaseException]] = []
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="step") as pool:
        try:
            while running or (waiting and not failures):
                if not failures:
                    for step in [step for step in waiting if done.keys() >= set(step.needs)]:
                        running[pool.submit(_timed, step, narrator)] = step
                        waiting.remove(step)
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    step = running.pop(future)
                    if problem := future.exception():
                        failures.append((step, problem))
                        stop.set()
                        _cancel(running)
                    else:
                        done[step.name] = future.result()
        except BaseException:
            stop.set()
            _cancel(running)
            raise
    if failures:
        raise _failure(failures, waiting) from failures[0][1]
    return done


def _timed(step: InstallStep, narrator: Narrator) -> float:
    begin = time.monotonic()
    with narrator.step(step.name):
        step.run()
    return time.monotonic() - begin


def _cancel(running: dict[Future[float], InstallStep]) -> None:
    """Cancel the steps that have not begun."""
    for future in [future for future in running if future.cancel()]:
        del running[future]


def _failure(failures: Sequence[tuple[InstallStep, BaseException]], left_out: Sequence[InstallStep]) -> StepFailed:
    step, problem = failures[0]
    error = StepFailed(step, str(problem) or type(problem).__name__)
    for other, also in failures[1:]:
        if not isinstance(also, Aborted):
            error.add_note(f"step '{other.name}' failed too: {also}")
    if left_out:
        error.add_note(f"not begun: {', '.join(step.name for step in left_out)}")
    return error
