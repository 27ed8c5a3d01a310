"""The rates and quantiles that the status shows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.app.history import LENGTH, History, Sample, quantile
from tidegate.core import Histogram

BOUNDS = (0.1, 1.0, 10.0)


def _sample(time: float, received: int = 0, delivered: int = 0, counts: tuple[int, ...] = (0, 0, 0, 0)) -> Sample:
    return Sample(time, received, delivered, counts, counts)


def test_rates_are_messages_a_second_whatever_the_step_really_took() -> None:
    history = History()
    assert history.rates() == ([], [])
    for sample in (_sample(0.0), _sample(5.0, 50, 40), _sample(7.0, 60, 60)):
        history.add(sample)
    assert history.rates() == ([10.0, 5.0], [8.0, 10.0])


def test_no_more_steps_are_kept_than_are_shown() -> None:
    history = History()
    for number in range(3 * LENGTH):
        history.add(_sample(float(number), number))
    assert len(history.rates()[0]) == LENGTH


def test_recent_counts_are_those_since_the_oldest_sample() -> None:
    history = History()
    assert history.recent([5, 0], [1, 0]) == ([5, 0], [1, 0])
    history.add(Sample(0.0, 0, 0, (2, 1), (0, 3)))
    assert history.recent([5, 1], [1, 3]) == ([3, 0], [1, 0])


def test_a_quantile_of_nothing_is_none_and_one_above_every_bound_is_the_last() -> None:
    assert quantile(BOUNDS, (0, 0, 0, 0), 0.5) is None
    assert quantile(BOUNDS, (0, 0, 0, 7), 0.5) == 10.0
    assert quantile(BOUNDS, (0, 10, 0, 0), 0.5) == pytest.approx(0.55)


@given(st.lists(st.floats(0.0, 10.0), min_size=1), st.sampled_from((0.01, 0.5, 0.99)))
def test_a_quantile_lies_in_the_bucket_of_the_value_that_it_estimates(values: list[float], share: float) -> None:
    histogram = Histogram(BOUNDS)
    for value in values:
        histogram.observe(value)
    rank = max(1, -(-int(share * len(values) * 1000) // 1000))
    exact = sorted(values)[min(len(values), rank) - 1]
    estimate = quantile(BOUNDS, histogram.counts, share)
    assert estimate is not None
    lower = max((bound for bound in (0.0, *BOUNDS) if bound < exact), default=0.0)
    upper = min(bound for bound in BOUNDS if bound >= exact)
    assert lower <= estimate <= upper
