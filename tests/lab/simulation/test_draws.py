"""The laws a scenario can name: their quantiles, their streams, and what is refused."""

from math import exp

import pytest
from pydantic import ValidationError

from plantfed_lab.simulation.draws import LARGEST, SMALLEST, Law, exponential, stream, uniform

N = 4000


def law(**keys: object) -> Law:
    return Law.model_validate(keys)


@pytest.mark.parametrize(
    ("drawn", "quantiles"),
    [
        (law(kind="constant", value=7), {0.1: 7, 0.9: 7}),
        (law(kind="uniform", low=2, high=6), {0.25: 3, 0.5: 4, 0.75: 5}),
        (law(kind="lognormal", median=30, sigma=0.6), {0.5: 30, 0.8413447: 30 * exp(0.6)}),
        (law(kind="pareto", minimum=2, shape=1.5), {0.5: 2 * 2 ** (1 / 1.5), 0.875: 8}),
        (law(kind="pareto", median=3, shape=1), {0.5: 3, 0.75: 6}),
    ],
)
def test_a_law_has_its_quantiles(drawn: Law, quantiles: dict[float, float]) -> None:
    draws = stream(1, "m", "x")
    found = sorted(drawn.draw(draws) for _ in range(N))
    for u, value in quantiles.items():
        assert drawn.quantile(u) == pytest.approx(value, rel=1e-6)
        # of N draws, the share below a quantile is u within five standard deviations
        below = sum(x < value for x in found) / N
        at = sum(x == value for x in found) / N
        assert below - 0.04 <= u <= below + at + 0.04


@pytest.mark.parametrize(
    "wild",
    [
        law(kind="lognormal", median=1, sigma=1000),
        law(kind="pareto", minimum=1, shape=1e-4),
        law(kind="pareto", median=1e300, shape=0.05),
    ],
)
def test_what_is_drawn_is_never_beyond_arithmetic(wild: Law) -> None:
    draws = stream(1, "m", "x")
    assert all(SMALLEST <= wild.draw(draws) <= LARGEST for _ in range(100))


def test_exponential_has_its_mean() -> None:
    draws = stream(1, "m", "x")
    mean = sum(exponential(draws, 5.0) for _ in range(N)) / N
    assert mean == pytest.approx(5.0, rel=0.1)


def test_a_stream_depends_on_seed_machine_and_purpose_alone() -> None:
    def first(seed: int, machine: str, purpose: str) -> float:
        return uniform(stream(seed, machine, purpose))

    assert first(1, "a", "compute") == first(1, "a", "compute")
    others = {first(2, "a", "compute"), first(1, "b", "compute"), first(1, "a", "uplink")}
    assert len({first(1, "a", "compute"), *others}) == 4


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"kind": "lognormal", "median": 3}, "needs median and sigma; given: median"),
        ({"kind": "pareto", "shape": 3}, "needs minimum and shape or median and shape"),
        ({"kind": "constant"}, "given: nothing"),
        ({"kind": "uniform", "low": 3, "high": 2}, "low 3 is above high 2"),
        ({"kind": "constant", "value": -1}, "greater than or equal to 0"),
        ({"kind": "pareto", "minimum": 1, "shape": 0}, "greater than 0"),
        ({"kind": "lognormal", "median": 1, "sigma": 1, "low": 0}, "needs median and sigma"),
    ],
)
def test_a_law_that_makes_no_sense_is_refused(keys: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Law.model_validate(keys)
