"""Code that is interrupted between any two instructions, by an exception or by other code."""

import sys
import threading

import pytest

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


def in_thread(function, *args):
    """Call it in another thread, which must not be held up; return what it returns."""
    results = []
    thread = threading.Thread(target=lambda: results.append(function(*args)), daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive(), 'it waits'
    return results[0] if results else None
