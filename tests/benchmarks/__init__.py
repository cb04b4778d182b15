"""Measurements, run by hand: figures belong in a report, not in an assertion."""
