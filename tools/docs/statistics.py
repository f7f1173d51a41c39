"""Generates docs/statistics.md from the tests and sample sizes that claims use."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from meshproof.claims.suite_run import ROOT
from meshproof.core.deadlines import SAMPLES
from meshproof.core.statistics import ALPHA, power, smallest_sample

DOCUMENT: Final = ROOT / "docs" / "statistics.md"

POWER: Final = 0.99
_EVEN: Final = (0.55, 0.60, 0.65, 0.70, 0.75, 0.80, 0.90, 1.0)
_WEIGHTED: Final = (0.50, 0.60, 0.70, 0.75, 0.85, 0.90, 1.0)
_SIZES: Final = (100, 200, 400, 800, SAMPLES.shares, 2600, 5300)


def current() -> str:
    """The text that docs/statistics.md should have."""
    return f"""\
# Statistics

Generated from the code (`python -m tools.docs.statistics`); do not edit.

Which endpoint answers a request is random, so a share is never exactly the expected one. A claim about shares
therefore takes **one sample of a size fixed beforehand** and makes **one exact two-sided test** of it:

- expected shares come from the weights of the proxy's actual endpoints (TRAFFIC-01, 02), or from the
  configured weights (TRAFFIC-03), never from a hard-coded 50:50;
- a single failed request in the sample fails the claim before shares are tested;
- alpha is {ALPHA:.0e}: a false alarm occurs once in a million tests, so a failure is not chance;
- samples are not repeated until one passes: three tries at alpha would be a different, laxer test.

Requests are sent one at a time, over kept-alive connections, since proxies balance request by request. Not several at
once: Envoy's least-request balancing, Istio's default, then prefers the endpoint that answers sooner, and the shares
would reflect the distance of the clusters, not their weights. One at a time the choice is a fair coin flip.

## What an even pair's sample shows

`{SAMPLES.shares}` requests per source (TRAFFIC-01 and 02) are the smallest sample that exposes 60:40 with a power of
{POWER:.0%}; the right-hand columns are the probability that a sample of that size exposes each skew.

{_table(0.5, _EVEN)}
A skew of 55:45 would take {smallest_sample(0.5, 0.55)} requests per source.

## What a sample of an 80:20 route shows

`{SAMPLES.weights}` requests per source (TRAFFIC-03) are the smallest sample that exposes 65:35 with the same power.

{_table(0.8, _WEIGHTED, (100, 200, SAMPLES.weights, 700, 958, 2000))}
## All of them answer

Where a claim only requires that every cluster answers (TRAFFIC-09), it sends {SAMPLES.spread} requests: of two even
clusters one is missed with a probability of 2 · 0.5^{SAMPLES.spread} = {2 * 0.5**SAMPLES.spread:.1g}.
"""


def _table(share: float, others: tuple[float, ...], sizes: tuple[int, ...] = _SIZES) -> str:
    """The probability that each sample size exposes each true share where `share` is expected."""
    skews = " | ".join(f"{other * 100:.0f}:{(1 - other) * 100:.0f}" for other in others)
    lines = [f"| requests | {skews} |", "|---" * (len(others) + 1) + "|"]
    for size in sizes:
        mark = "**" if size in (SAMPLES.shares, SAMPLES.weights) else ""
        cells = " | ".join(_percent(power(size, share, other)) for other in others)
        lines.append(f"| {mark}{size}{mark} | {cells} |")
    return "\n".join(lines) + "\n"


def _percent(chance: float) -> str:
    """Rounded down, so that no probability below 1 is shown as certain."""
    if chance < 0.001:
        return "< 0.1 %"
    return "> 99.9 %" if chance > 0.999 else f"{int(chance * 1000) / 10:.1f} %"


def write(path: Path = DOCUMENT) -> None:
    path.write_text(current())


if __name__ == "__main__":
    write()
    print(f"wrote {DOCUMENT}")
