"""Which encodings a received body may name."""

import codecs
import encodings
import pkgutil

import pytest

from amqplib.core.text_encodings import is_text_encoding

#: What Python can decode text by, and what a sender shall not choose.
NOT_CHOSEN = {
    'idna': 'quadratic',
    'punycode': 'quadratic',
    'charmap': 'nobody calls it an encoding',
    'mbcs': 'depends on the system',
    'oem': 'depends on the system',
    'raw_unicode_escape': 'for source text',
    'undefined': 'fails always',
    'unicode_escape': 'for source text',
}
MODULES = {module.name for module in pkgutil.iter_modules(encodings.__path__)} - {'aliases'}
MODULES -= {name for name in MODULES if name.startswith('_')}


def is_of_text(name):
    try:
        return codecs.lookup(name)._is_text_encoding
    except LookupError:
        return False  # on another system


def test_all_encodings_of_text_can_be_chosen_but_a_few():
    chosen = {name for name in MODULES if is_text_encoding(name)}
    assert chosen == {name for name in MODULES if is_of_text(name)} - set(NOT_CHOSEN)


ENCODING_NAMES = """
    UTF-8 utf8 U8 Latin-1 ISO-8859-15 iso_8859-1 ISO_8859-1:1987 csISOLatin1 windows-1252 US-ASCII
    UTF-16LE Shift_JIS sjis EUC-JP GB18030 Big5 KOI8-R
"""


@pytest.mark.parametrize('name', ENCODING_NAMES.split())
def test_each_name_of_an_encoding_can_be_chosen(name):
    assert is_text_encoding(name)
    assert codecs.lookup(name)


NOT_TEXT = ['base64', 'bz2', 'hex', 'quopri', 'rot13', 'uu', 'zlib', 'aliases']
NO_NAMES = ['', 'no such', 'x' * 255, 'utf\0-8', '..os', 'a.b', '\u202eutf8', 'utf;8']


@pytest.mark.parametrize('name', [*NOT_CHOSEN, *NOT_TEXT, *NO_NAMES])
def test_anything_else_cannot_be_chosen(name):
    assert not is_text_encoding(name)


def test_codecs_are_not_looked_up_by_names_of_senders(monkeypatch):
    """Looking up a codec may import a module of the name that a sender has given."""
    monkeypatch.setattr(codecs, 'lookup', pytest.fail)
    is_text_encoding.cache_clear()
    assert is_text_encoding('utf-8')
    assert not is_text_encoding('made-up')
