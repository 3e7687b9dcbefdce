"""A small graph over upstreams that already have its shape, run by the product's own parts: to be set beside other gateways."""

from tests.benchmarks.comparison.server import create

__all__ = ["create"]
