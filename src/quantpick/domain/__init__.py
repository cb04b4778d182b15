"""Decides. Pure: values in, values out, standard library only; no I/O, clock or environment."""
