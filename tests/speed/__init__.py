"""Fits the speed model to published measurements, and says how far off it is."""
