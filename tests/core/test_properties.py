"""Property lists of any content class: both ways, wrong values, and damage."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqplib.core.properties import GenericContent
from tests.helpers.values import same, unhex
from tests.helpers.waiting import time_of


class Everything(GenericContent):
    """A content with each type, and with more properties than one word of flags has room for."""

    PROPERTIES = (
        ('octet', 'octet'),
        ('short', 'short'),
        ('long', 'long'),
        ('longlong', 'longlong'),
        ('shortstr', 'shortstr'),
        ('longstr', 'longstr'),
        ('table', 'table'),
        ('timestamp', 'timestamp'),
        *((f'text_{number}', 'shortstr') for number in range(8, 33)),
    )


def loaded(data, cls=Everything):
    content = cls()
    content._load_properties(data)
    return content


PROPERTY_LISTS = [
    ({}, '0001 0001 0000'),
    ({'octet': 5}, '8001 0001 0000 05'),
    ({'short': 5}, '4001 0001 0000 0005'),
    ({'long': 5}, '2001 0001 0000 00000005'),
    ({'longlong': 5}, '1001 0001 0000 0000000000000005'),
    ({'shortstr': 'a'}, '0801 0001 0000 0161'),
    ({'longstr': 'a'}, '0401 0001 0000 0000000161'),
    ({'table': {'a': 1}}, '0201 0001 0000 00000007 0161 49 00000001'),
    ({'timestamp': 2**63}, '0101 0001 0000 8000000000000000'),
    ({'text_14': 'a'}, '0003 0001 0000 0161'),
    ({'text_15': 'a'}, '0001 8001 0000 0161'),
    ({'text_29': 'a'}, '0001 0003 0000 0161'),
    ({'text_30': 'a'}, '0001 0001 8000 0161'),
    ({'text_32': 'a'}, '0001 0001 2000 0161'),
    (
        {'octet': 5, 'text_14': 'b', 'text_15': 'c', 'text_30': 'd'},
        '8003 8001 8000 05 0162 0163 0164',
    ),
]


@pytest.mark.parametrize(('properties', 'expected'), PROPERTY_LISTS)
def test_property_list_both_ways(properties, expected):
    assert Everything(**properties)._serialize_properties() == unhex(expected)
    assert same(loaded(unhex(expected)).properties, properties)


def test_the_generic_content_has_one_property():
    assert GenericContent(dummy='a')._serialize_properties() == unhex('8000 0161')
    assert GenericContent()._serialize_properties() == unhex('0000')
    assert loaded(unhex('8000 0161'), GenericContent).dummy == 'a'


def test_flags_may_end_before_all_properties_are_named():
    assert loaded(unhex('8000 05')).properties == {'octet': 5}


@pytest.mark.parametrize(
    'flags', ['0001 0001 1000', '0001 0001 0002', '0001 0001 0001 8000', '0001 0001 2001 0002']
)
def test_flag_of_a_property_that_does_not_exist_damages_all(flags):
    content = loaded(unhex(flags) + b'\x01a' * 4)
    assert content.properties == {}
    for name in ('octet', 'text_32'):
        with pytest.raises(ValueError, match=f'{name}: .*does not exist'):
            getattr(content, name)


@pytest.mark.parametrize('flags', ['', '00', '0001', '0001 00', '0001' * 20])
def test_flags_that_do_not_end_damage_all(flags):
    content = loaded(unhex(flags))
    assert content.properties == {}
    with pytest.raises(ValueError, match=r'short: .*flags do not end'):
        content.short  # noqa: B018


def test_endless_flags_take_time_by_their_size():
    small = time_of(lambda: loaded(b'\x00\x01' * 10_000).properties)
    large = time_of(lambda: loaded(b'\x00\x01' * 80_000).properties)
    assert large < 20 * small


def test_error_of_a_property_names_it():
    with pytest.raises(ValueError, match='octet: 256 is not'):
        Everything(octet=256)._serialize_properties()
    with pytest.raises(TypeError, match='shortstr: '):
        Everything(shortstr=5)._serialize_properties()
    with pytest.raises(ValueError, match=re.escape("table['a']: ")):
        Everything(table={'a': None})._serialize_properties()
    with pytest.raises(TypeError, match='table: '):
        Everything(table=[])._serialize_properties()


def test_contents_are_equal_by_their_properties():
    assert GenericContent(dummy='a') == GenericContent(dummy='a')
    assert GenericContent(dummy='a') == loaded(unhex('8000 0161'), GenericContent)
    assert GenericContent(dummy='a') != GenericContent(dummy='b')
    assert GenericContent(dummy='a') != GenericContent()
    assert GenericContent() != None  # noqa: E711
    assert GenericContent() != {}


def test_unknown_property_of_a_content_is_ignored_with_a_warning():
    with pytest.warns(UserWarning, match="GenericContent has no property 'dumy', 'x': it is"):
        content = GenericContent(dumy='a', x=1, dummy='b')
    assert content.properties == {'dummy': 'b'}


def test_property_of_a_class_is_what_makes_it_an_attribute():
    assert isinstance(GenericContent.dummy, property)
    assert isinstance(Everything.octet, property)


def test_contents_cannot_be_hashed():
    with pytest.raises(TypeError, match='unhashable'):
        hash(GenericContent())


def test_unknown_attribute_is_an_attribute_error():
    content = GenericContent()
    with pytest.raises(AttributeError, match='nothing'):
        content.nothing  # noqa: B018
    with pytest.raises(AttributeError, match='dummy'):
        content.dummy  # noqa: B018


@given(st.binary(max_size=40))
@settings(max_examples=300)
def test_random_property_list_only_hurts_when_it_is_looked_at(data):
    content = loaded(data)
    assert content._serialize_properties() == data
    properties = content.properties
    for name, _ in Everything.PROPERTIES:
        if name in properties:
            assert getattr(content, name) is properties[name]
        else:
            with pytest.raises((AttributeError, ValueError), match=name):
                getattr(content, name)
