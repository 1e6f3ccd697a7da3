"""Doing something at the k-th line that a call runs in the library, for each k in turn."""

import itertools
import sys
from pathlib import Path

import amqplib

FOLDER = str(Path(amqplib.__file__).parent)

#: Seconds that another thread may take for what does not have to wait.
PATIENCE = 20.0


def at_line(line, action, call, *arguments):
    """Make a call, and do the action before this line of the library; return if it came so far.

    The action may raise something, which is what signal handlers do, or call the library.
    """
    reached = False

    def trace(frame, event, arg):
        nonlocal line, reached
        if not frame.f_code.co_filename.startswith(FOLDER) or frame.f_code.co_name == '__del__':
            return None  # what is raised in a finalizer goes nowhere
        if event == 'line':
            line -= 1
            if line < 0 and not reached:
                reached = True
                action()
        return None if reached else trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call(*arguments)
    finally:
        sys.settrace(before)
    return reached


def lines(first=0):
    """Return the numbers of lines to be tried, one after the other."""
    return itertools.count(first)
