"""Code that is interrupted between any two instructions or lines, by an exception or other code."""

import itertools
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import pytest

import amqplib
from tests.helpers.threads import in_thread

#: The folder of the library.
FOLDER = str(Path(amqplib.__file__).parent)


@dataclass
class Line:
    """A line of the library that is to be tried in a call.

    number: how many were tried before.
    tried: those that do not count again; None if each line counts whenever it is reached. A line
        is another one if its function was called from another line.
    left_out: how many lines are passed before this one.
    """

    number: int
    tried: Optional[set[tuple[object, ...]]]
    left_out: int

    def is_reached(self, frame):
        """Return whether a frame has come to this line."""
        if self.tried is not None:
            caller = frame.f_back
            place = frame.f_code, frame.f_lineno, caller.f_code, caller.f_lineno
            if place in self.tried:
                return False
            self.tried.add(place)
        self.left_out -= 1
        return self.left_out < 0


def lines(step=1, once=True):
    """Return the lines to be tried in calls that are all the same, one line for each call.

    step: how many lines there are to each one that is tried.
    once: whether a line that is reached several times is tried only the first time.
    """
    tried = set() if once else None
    for number in itertools.count():
        yield Line(number, tried, step - 1 if once else number * step)


def at_line(line, action, call, *arguments):
    """Make a call; do the action before a line of the library; return whether there was one.

    line: of lines(); if all were tried, the call is made without the action.

    The action may raise something, which is what signal handlers do, or call the library.
    """
    reached = False

    def trace(frame, event, arg):
        nonlocal reached
        if not frame.f_code.co_filename.startswith(FOLDER) or frame.f_code.co_name == '__del__':
            return None  # what is raised in a finalizer goes nowhere
        if event == 'line' and not reached and line.is_reached(frame):
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


class Alarm(TimeoutError):
    """What handlers of signals like to raise."""


def interrupt(line, call, *arguments, by=KeyboardInterrupt):
    """Make a call; interrupt it before a line of the library; return whether there was one."""

    def raise_it():
        raise by

    try:
        at_line(line, raise_it, call, *arguments)
    except by:
        return True
    return False


#: For tests by which an instruction comes after which.
traces_instructions = pytest.mark.skipif(
    sys.implementation.name != 'cpython', reason='elsewhere, instructions are not traced'
)


class Interrupt(BaseException):
    """What a signal handler may raise."""


def raise_interrupt():
    raise Interrupt


def run_interrupted(number, module, function, interruption=raise_interrupt):
    """Call a function, and another one before the instruction of that number in a module.

    Returns (whether it came to that instruction, what the function returned or raised).
    """
    left, outcome = number, []

    def trace(frame, event, arg):
        nonlocal left
        frame.f_trace_opcodes = True
        if event == 'opcode' and frame.f_code.co_filename == module.__file__ and left:
            left -= 1
            if not left:
                interruption()
        return trace

    def run():
        sys._getframe().f_trace_opcodes = True  # Python 3.12 looks at it when tracing begins
        sys.settrace(trace)
        try:
            outcome.append(function())
        except BaseException as error:  # noqa: BLE001  (the caller looks at it)
            outcome.append(error)
        finally:
            sys.settrace(None)

    # In a thread of its own, as what measures coverage traces this one.
    in_thread(run)
    return not left, outcome[0]


def each_interruption(module, prepare):
    """Call a function again and again, interrupted before each of its instructions in a module.

    prepare: returns the function and what interrupts it; called anew
        for each time.

    Yields what the function has returned or raised, each time.
    """
    number, reached = 0, True
    while reached:
        number += 1
        function, interruption = prepare()
        reached, result = run_interrupted(number, module, function, interruption)
        if reached:
            yield result
    assert number > 5, 'there was nothing to interrupt'
