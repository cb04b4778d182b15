"""Runs quantpick and interrupts it: ``python -m tests.support.interrupter MOMENT WORD...``.

Moments are counted from 1: the calls and returns, in the main thread, of the functions in which it
waits for other threads. At the given one comes the signal that Ctrl-C sends.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

#: Of threading, of a refresh, and of a download.
_WAITS = {"wait", "_release_save", "_acquire_restore", "_hear", "wait_for_end"}


class _Interrupter:
    def __init__(self, moment: int) -> None:
        self._left = moment

    def __call__(self, frame: FrameType, _event: str, _what: object) -> None:
        if frame.f_code.co_name in _WAITS:
            self._left -= 1
            if self._left == 0:
                sys.setprofile(None)
                signal.raise_signal(signal.SIGINT)


if __name__ == "__main__":
    from quantpick.cli.main import run

    # What runs in the background of a shell does not hear it otherwise.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.setprofile(_Interrupter(int(sys.argv[1])))
    sys.exit(run(sys.argv[2:]))
