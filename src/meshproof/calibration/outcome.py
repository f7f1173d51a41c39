"""Outcome of a mutant: results of the suites on a broken mesh, compared with the expectations of the fault."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from meshproof.claims.results import Result
from meshproof.claims.suite_run import SuiteRun
from meshproof.faults.fault import Fault


class Fate(StrEnum):
    """The result for a mutant."""

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

    `missed` are claims that should have turned red and did not, with their results; `noise` those that turned red and
    should not have; `unwritten` those that the suites lack. `texts` are the failure texts of the claims that killed it;
    `ran` is the time in UTC.
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
    def explanation(self) -> str:
        """In one line: why it has this fate."""
        parts = [self.reason] if self.reason else []
        parts += [f"{code} stayed {result}" for code, result in self.missed.items()]
        parts += [f"{code} is red and should not be: {result}" for code, result in self.noise.items()]
        parts += [f"not written yet: {', '.join(self.unwritten)}"] if self.unwritten else []
        return "; ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanPass:
    """One run of the suites on a mesh without a fault: the number of claims that held, and the false alarms (`red`).

    `ran` is the time in UTC.
    """

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

    A BROKEN claim means that our tool failed, so it kills nothing.
    """
    unwritten = tuple(code for code in fault.kills if code not in run.results)
    expected_red = [code for code in fault.kills if run.results.get(code) not in (None, Result.NOT_APPLICABLE)]
    missed = {code: _result_text(run, code) for code in expected_red if run.results[code] is not Result.FAILED}
    allowed = {*fault.kills, *fault.also}
    noise = {code: _result_text(run, code) for code in run.red if code not in allowed}
    killers = [code for code in expected_red if code not in missed]
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


def _result_text(run: SuiteRun, code: str) -> str:
    text = run.texts.get(code, "").strip().splitlines()
    return f"{run.results[code]}{f' ({text[0][:160]})' if text else ''}"
