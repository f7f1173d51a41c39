"""Lost and slow requests of a load, judged against a bound; and whether the load was enough to say anything."""

from __future__ import annotations

from collections.abc import Sequence

from meshproof.core.deadlines import BOUNDS
from meshproof.core.errors import Broken
from meshproof.load.generator import Load
from meshproof.load.history import History, Request, Window, bad_spell, summarise


def must_have_been_loaded(load: Load, window: Window) -> None:
    """Raises `Broken` if less than 80% of the planned load was sent: such a load proves nothing."""
    for source in load.sources:
        sent = len(load.history.sent_in(window, sources=(source,)))
        planned = window.seconds * load.rate
        if sent < planned * 0.8:
            raise Broken(
                f"load from {source}",
                f"only {sent} of about {planned:.0f} requests were sent",
                "is the machine too busy?",
            )


def lost(history: History, window: Window, sources: Sequence[str], *, but: Window | None = None) -> list[str]:
    """Lost requests in a window, with the first of them; also a problem: no request with a known outcome.

    Losses within the window `but` are allowed, and omitted.
    """
    sent = history.sent_in(window, sources=sources)
    known = [request for request in sent if request.is_known]
    if but is not None:
        known = [r for r in known if not (r.is_bad and but.begin_s <= r.sent_s <= but.end_s)]
    if not known:
        return ["no request was sent, or no outcome is known"]
    gone = [request for request in known if request.is_bad]
    return [f"{len(gone)} of {len(known)} requests lost; first {gone[0]}; {summarise(sent)}"] if gone else []


def felt(requests: Sequence[Request], since_s: float, bound_s: float) -> list[str]:
    """The problem if requests were lost or slow for longer than `bound_s` seconds, with the last of them."""
    if not any(request.is_known for request in requests):
        return ["no request was sent, or no outcome is known"]
    spell = bad_spell(requests, since_s, slow_s=BOUNDS.answer.seconds)
    if spell <= bound_s:
        return []
    last = next(r for r in requests if r.sent_s - since_s >= spell - 1e-6)
    return [f"requests were lost or slow for {spell:.1f} s, bound {bound_s:g} s; last {last}"]
