"""The Hub on loopback: its wire protocol, what can go wrong on it, and downloads from it."""
