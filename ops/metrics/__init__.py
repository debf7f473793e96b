"""Metrics of a deployment for Prometheus: the series, what they are read from, and what serves them."""
