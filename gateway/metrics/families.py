"""Families of series, each made whole from plain counts. Every one of our own begins with ``gateway_``."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

from sources.ports.histogram import Histogram

PREFIX = "gateway_"

Labels = tuple[str, ...]
L = TypeVar("L", bound=Labels)


def counter(name: str, about: str, labels: Sequence[str], values: Mapping[L, float]) -> Metric:
    """``name`` without the ``_total`` that the exposition adds."""
    family = CounterMetricFamily(PREFIX + name, about, labels=labels)
    for places, value in sorted(values.items()):
        family.add_metric(places, value)
    return family


def gauge(name: str, about: str, labels: Sequence[str], values: Mapping[L, float]) -> Metric:
    family = GaugeMetricFamily(PREFIX + name, about, labels=labels)
    for places, value in sorted(values.items()):
        family.add_metric(places, value)
    return family


def histogram(name: str, about: str, labels: Sequence[str], values: Mapping[L, Histogram]) -> Metric:
    family = HistogramMetricFamily(PREFIX + name, about, labels=labels)
    for places, counted in sorted(values.items()):
        bounds = [*map(floatToGoString, counted.bounds), "+Inf"]
        buckets = list(zip(bounds, accumulate(counted.counts), strict=True))
        family.add_metric(places, buckets, counted.total)
    return family


def single(value: float) -> Mapping[Labels, float]:
    """Of a family without labels."""
    return {(): value}


def joined(parts: Iterable[tuple[Labels, Histogram]]) -> Mapping[Labels, Histogram]:
    """Those of the same labels together."""
    found: dict[Labels, Histogram] = {}
    for places, part in parts:
        if places not in found:
            found[places] = Histogram(part.bounds)
        found[places].add(part)
    return found
