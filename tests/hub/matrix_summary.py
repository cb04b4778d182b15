"""Where the tests keep the summary of the fault matrix until pytest prints its own."""

from __future__ import annotations

import pytest

SUMMARY = pytest.StashKey[str]()
