"""Metrics and figures of a trained network."""
