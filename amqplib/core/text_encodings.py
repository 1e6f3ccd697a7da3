"""The encodings that a received body may name: text encodings whose cost is linear.

The sender chooses the name. Python has codecs that take minutes for a small body (punycode, idna),
codecs whose result is not text, and imports a module by the name. So this is a closed list; no
other codec is ever looked up. The cost of each one was measured.
"""

from __future__ import annotations

import re
from encodings import normalize_encoding
from encodings.aliases import aliases

from amqplib.core.memoize import lru_cache

# How Python normalises any other name depends on its version.
_NAME = re.compile(r'[A-Za-z0-9 ._:-]+')

# The names of Python's modules; all other names are aliases of these.
_LISTED = """
    ascii utf_7 utf_8 utf_8_sig utf_16 utf_16_be utf_16_le utf_32 utf_32_be utf_32_le latin_1
    iso8859_1 iso8859_2 iso8859_3 iso8859_4 iso8859_5 iso8859_6 iso8859_7 iso8859_8 iso8859_9
    iso8859_10 iso8859_11 iso8859_13 iso8859_14 iso8859_15 iso8859_16
    cp1250 cp1251 cp1252 cp1253 cp1254 cp1255 cp1256 cp1257 cp1258
    cp037 cp273 cp424 cp437 cp500 cp720 cp737 cp775 cp850 cp852 cp855 cp856 cp857 cp858 cp860
    cp861 cp862 cp863 cp864 cp865 cp866 cp869 cp874 cp875 cp1006 cp1026 cp1125 cp1140
    koi8_r koi8_t koi8_u kz1048 ptcp154 tis_620 hp_roman8 palmos
    mac_arabic mac_croatian mac_cyrillic mac_farsi mac_greek mac_iceland mac_latin2 mac_roman
    mac_romanian mac_turkish
    big5 big5hkscs cp932 cp949 cp950 gb2312 gb18030 gbk hz johab
    euc_jis_2004 euc_jisx0213 euc_jp euc_kr shift_jis shift_jis_2004 shift_jisx0213
    iso2022_jp iso2022_jp_1 iso2022_jp_2 iso2022_jp_2004 iso2022_jp_3 iso2022_jp_ext iso2022_kr
"""
_TEXT_ENCODINGS = frozenset(_LISTED.split())


@lru_cache(maxsize=128)
def is_text_encoding(name: str) -> bool:
    """Return whether a body may be decoded with the encoding of this name."""
    if not _NAME.fullmatch(name):
        return False
    normal = normalize_encoding(name).lower()
    return aliases.get(normal, normal) in _TEXT_ENCODINGS
