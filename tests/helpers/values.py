"""Values and their bytes on the wire."""

import struct


def unhex(text):
    """Return what hexadecimal digits, with spaces anywhere, stand for."""
    return bytes.fromhex(text)


def same(value, expected):
    """Return whether two values are equal, and of the same types all the way down."""
    return value == expected and repr(value) == repr(expected)


def table_of(field, key=b'\x01k'):
    """Return the bytes of a table with one entry."""
    entry = key + field
    return struct.pack('>I', len(entry)) + entry


#: Wire type, value, its bytes.
WIRE_TYPES = [
    ('bit', True, '01'),
    ('bit', False, '00'),
    ('octet', 0, '00'),
    ('octet', 255, 'ff'),
    ('short', 0, '0000'),
    ('short', 258, '0102'),
    ('short', 65535, 'ffff'),
    ('long', 0, '00000000'),
    ('long', 16909060, '01020304'),
    ('long', 4294967295, 'ffffffff'),
    ('longlong', 0, '0000000000000000'),
    ('longlong', 72623859790382856, '0102030405060708'),
    ('longlong', 18446744073709551615, 'ffffffffffffffff'),
    ('shortstr', '', '00'),
    ('shortstr', 'abc', '03 616263'),
    ('shortstr', 'é€😀', '09 c3a9 e282ac f09f9880'),
    ('shortstr', 'a\0b', '03 610062'),
    ('shortstr', 'a\udcffb', '03 61ff62'),
    ('shortstr', 'a' * 255, 'ff' + '61' * 255),
    ('longstr', '', '00000000'),
    ('longstr', 'abc', '00000003 616263'),
    ('longstr', 'é€😀', '00000009 c3a9 e282ac f09f9880'),
    ('longstr', b'a\xffb', '00000003 61ff62'),
    ('longstr', 'a' * 256, '00000100' + '61' * 256),
    ('table', {}, '00000000'),
    ('table', {'a': 1}, '00000007 0161 49 00000001'),
    ('table', {'é': 'x', '': True}, '0000000c 02c3a9 53 00000001 78 00 74 01'),
    ('table', {'a\udcff': 1}, '00000008 0261ff 49 00000001'),
]


#: The wire types that can be read.
READERS = ['bit', 'octet', 'short', 'long', 'longlong', 'shortstr', 'longstr', 'table', 'timestamp']
