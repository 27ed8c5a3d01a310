"""The small values: batches, counters, histograms, back-off."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.core import Backoff, Batch, BridgeCounters, Histogram, Message


def test_a_batch_is_settled_once_however_often_it_is_said() -> None:
    settled: list[int] = []
    batch = Batch([Message(b"a", b"1", "id")], lambda: settled.append(1))
    assert not batch.settled
    for _ in range(3):
        batch.settle()
    assert settled == [1]
    assert batch.settled


def test_settling_a_batch_from_within_its_settling_does_nothing() -> None:
    calls: list[int] = []

    def settle() -> None:
        calls.append(1)
        batch.settle()

    batch = Batch([], settle)
    batch.settle()
    assert calls == [1]


def test_a_batch_that_nobody_waits_for_counts_as_settled() -> None:
    batch = Batch([])
    assert batch.settled
    batch.settle()


def test_back_off_doubles_up_to_its_longest_and_starts_over_after_a_success() -> None:
    for _ in range(50):
        backoff = Backoff(first=0.5, longest=6.0)
        for bound in (0.5, 1.0, 2.0, 4.0, 6.0, 6.0, 6.0):
            assert bound / 2 <= backoff.next() <= bound
        backoff.reset()
        assert 0.25 <= backoff.next() <= 0.5


def test_back_off_differs_from_gateway_to_gateway() -> None:
    assert len({Backoff().next() for _ in range(20)}) > 1


def test_back_off_never_ends_and_never_exceeds_its_longest() -> None:
    backoff = Backoff()
    assert all(0 < backoff.next() <= 15.0 for _ in range(5000))


@settings(deadline=None)
@given(
    st.lists(st.floats(0, 10) | st.sampled_from([0.1, 0.5, 2.0]), max_size=30),
    st.lists(st.sampled_from([0.1, 0.5, 2.0, 7.0]), unique=True).map(sorted),
)
def test_a_histogram_counts_each_value_under_the_first_bound_that_is_not_smaller(
    values: list[float], bounds: list[float]
) -> None:
    """As Prometheus's `le` wants it; what is above every bound is counted last."""
    histogram = Histogram(tuple(bounds))
    for value in values:
        histogram.observe(value)
    cumulative = [sum(histogram.counts[: n + 1]) for n in range(len(bounds))]
    assert cumulative == [sum(value <= bound for value in values) for bound in bounds]
    assert sum(histogram.counts) == len(values)
    assert histogram.total == pytest.approx(sum(values))


def test_a_histogram_counts_a_value_many_times_at_once() -> None:
    once, many = Histogram(), Histogram()
    many.observe(0.03, 500)
    for _ in range(500):
        once.observe(0.03)
    assert many.counts == once.counts
    assert many.total == pytest.approx(once.total)


def test_a_histograms_default_bounds_ascend() -> None:
    assert all(one < other for one, other in pairwise(Histogram().bounds))


@pytest.mark.parametrize("where", ["delivered", "filtered", "in_flight", "spooled", "dead_lettered", "dropped"])
def test_counters_are_balanced_only_while_every_message_is_somewhere(where: str) -> None:
    counters = BridgeCounters()
    assert counters.balanced
    counters.received = 3
    assert not counters.balanced
    if where in ("dead_lettered", "dropped"):
        getattr(counters, where).update(one=1, other=2)
    else:
        setattr(counters, where, 3)
    assert counters.balanced
