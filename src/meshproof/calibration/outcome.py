"""A mutant's outcome: what the suites said of a broken mesh against what the fault's record says they must."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from meshproof.claims.results import Result
from meshproof.claims.suite_run import SuiteRun
from meshproof.faults.fault import Fault


class Fate(StrEnum):
    """What became of a mutant."""

    KILLED = "killed"
    SURVIVED = "survived"
    UNWRITTEN = "claim not written yet"
    PREVENTED = "prevented by Istio"
    NOT_HERE = "not available here"
    TROUBLE = "run went wrong"

    @property
    def good(self) -> bool:
        return self not in (Fate.SURVIVED, Fate.TROUBLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialOutcome:
    """One mutant on one topology.

    `missed` are claims that should have turned red and did not, with what they said; `noise` those that turned red and
    should not; `unwritten` those that the suites do not have yet. `texts` are the failure texts of what killed it;
    `ran` is when, in UTC.
    """

    fault: str
    topology: str
    fate: Fate
    reason: str = ""
    red: tuple[str, ...] = ()
    missed: Mapping[str, str] = field(default_factory=dict)
    noise: Mapping[str, str] = field(default_factory=dict)
    unwritten: tuple[str, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    inject_s: float = 0.0
    run_s: float = 0.0
    heal_s: float = 0.0
    ran: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="minutes"))

    @property
    def key(self) -> tuple[str, str]:
        return self.fault, self.topology

    @property
    def told(self) -> str:
        """In one line: why it has this fate."""
        parts = [self.reason] if self.reason else []
        parts += [f"{code} stayed {said}" for code, said in self.missed.items()]
        parts += [f"{code} is red and should not be: {said}" for code, said in self.noise.items()]
        parts += [f"not written yet: {', '.join(self.unwritten)}"] if self.unwritten else []
        return "; ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanPass:
    """One run of the suites on a mesh without a fault: how many claims held, and which were red although they should
    not. `ran` is when, in UTC."""

    topology: str
    held: int
    red: tuple[str, ...]
    seconds: float
    ran: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="minutes"))

    @classmethod
    def of(cls, topology: str, run: SuiteRun) -> CleanPass:
        held = sum(result is Result.SUCCEEDED for result in run.results.values())
        return cls(topology=topology, held=held, red=run.red, seconds=round(run.seconds, 1))


def judge_mutant(fault: Fault, topology: str, run: SuiteRun) -> TrialOutcome:
    """Killed: every claim of `kills` that exists and applies is FAILED, and nothing outside `kills` and `also` is red.

    A claim that is BROKEN says that our tool failed, so it kills nothing.
    """
    unwritten = tuple(code for code in fault.kills if code not in run.results)
    asked = [code for code in fault.kills if run.results.get(code) not in (None, Result.NOT_APPLICABLE)]
    missed = {code: _said(run, code) for code in asked if run.results[code] is not Result.FAILED}
    expected = {*fault.kills, *fault.also}
    noise = {code: _said(run, code) for code in run.red if code not in expected}
    killers = [code for code in asked if code not in missed]
    reason = ""
    if missed or noise:
        fate = Fate.SURVIVED
    elif killers:
        fate = Fate.KILLED
    elif unwritten:
        fate = Fate.UNWRITTEN
    else:
        fate, reason = Fate.SURVIVED, "no claim that should notice it applies to this topology"
    return TrialOutcome(
        fault=fault.id,
        topology=topology,
        fate=fate,
        reason=reason,
        red=run.red,
        missed=missed,
        noise=noise,
        unwritten=unwritten,
        texts={code: run.texts[code] for code in killers if code in run.texts},
        run_s=run.seconds,
    )


def _said(run: SuiteRun, code: str) -> str:
    text = run.texts.get(code, "").strip().splitlines()
    return f"{run.results[code]}{f' ({text[0][:160]})' if text else ''}"
