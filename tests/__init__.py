"""Tests of behaviour through the public surface, and of the pure core's laws."""
