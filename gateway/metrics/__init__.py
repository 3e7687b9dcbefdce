"""What an operator watches, in the form that Prometheus reads. Counted where it happens, put together when asked."""

from gateway.metrics.page import Metrics

__all__ = ["Metrics"]
