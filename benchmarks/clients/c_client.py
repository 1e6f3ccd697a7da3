"""The client in C, as a program in C uses it: each loop is one call of c_loops.c."""

import ctypes

from clients import C_LIBRARY, PREFETCH


def _load():
    library = ctypes.CDLL(str(C_LIBRARY))
    pointer, text, data = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p
    integer, size = ctypes.c_int, ctypes.c_size_t
    prototypes = {
        'loops_open': (pointer, [text, integer]),
        'loops_declare': (integer, [pointer, text]),
        'loops_publish': (integer, [pointer, integer, data, size]),
        'loops_consume': (integer, [pointer, integer, integer]),
        'loops_get': (integer, [pointer, integer]),
        'loops_open_channels': (integer, [pointer, integer]),
        'loops_last_body': (pointer, [pointer, ctypes.POINTER(size)]),
        'loops_error': (text, [pointer]),
        'loops_close': (None, [pointer]),
    }
    for name, (result, arguments) in prototypes.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class Client:
    def __init__(self, host, port):
        self.library = _load()
        self.state = self.library.loops_open(host.encode(), port)
        if not self.state:
            raise ConnectionError('the client in C could not connect')

    def _checked(self, result):
        if result < 0:
            raise RuntimeError(self.library.loops_error(self.state).decode())
        return result

    def declare(self, queue):
        return self._checked(self.library.loops_declare(self.state, queue.encode()))

    def publish_many(self, count, body):
        self._checked(self.library.loops_publish(self.state, count, body, len(body)))

    def consume_many(self, count):
        self._checked(self.library.loops_consume(self.state, count, 0))

    def consume_ack_many(self, count):
        self._checked(self.library.loops_consume(self.state, count, PREFETCH))

    def get_many(self, count):
        self._checked(self.library.loops_get(self.state, count))

    def last_body(self):
        size = ctypes.c_size_t()
        start = self.library.loops_last_body(self.state, ctypes.byref(size))
        return ctypes.string_at(start, size.value)

    def open_channels(self, count):
        self._checked(self.library.loops_open_channels(self.state, count))

    def close(self):
        self.library.loops_close(self.state)
