"""Code that is interrupted between any two instructions or lines, by an exception or other code."""

import itertools
import sys
from pathlib import Path

import pytest

import amqplib
from tests.helpers.threads import in_thread

#: The folder of the library.
FOLDER = str(Path(amqplib.__file__).parent)


def at_line(line, action, call, *arguments):
    """Make a call; do the action before this line of the library; return whether it was reached.

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


class Alarm(TimeoutError):
    """What handlers of signals like to raise."""


def interrupt(line, call, *arguments, by=KeyboardInterrupt):
    """Make a call; interrupt it before this line of the library; return whether it was reached."""

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
