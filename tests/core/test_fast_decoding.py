"""Deliveries the short way: the same methods as the general way finds, and the same errors."""

import struct
from collections import deque

import memory
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqplib.client_0_8 import method_framing, spec
from amqplib.client_0_8.deadline import NEVER
from amqplib.client_0_8.deliveries import MAX_HEADER, DeliveryArguments
from amqplib.client_0_8.exceptions import ProtocolError
from amqplib.client_0_8.method_framing import MethodReader
from amqplib.client_0_8.serialization import AMQPReader, decode_arguments, encode_once

DELIVER = spec.METHODS['basic.deliver']
METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
FIRST = b'\x01\0\0\0\0\0\x04\0\x0a\0\x32\xce'  # which says that the peer speaks AMQP
LIMIT = 1000


def frame(frame_type, payload, channel=1, end=b'\xce'):
    return struct.pack('>BHI', frame_type, channel, len(payload)) + payload + end


def method(tag='t', number=1, redelivered=False, exchange='e', routing_key='k'):
    return encode_once(DELIVER, tag, number, redelivered, exchange, routing_key)


def frames_of(body, size, properties=b'\0\0', channel=1, **fields):
    """Return the octets of a delivery with its body in frames of that size."""
    header = struct.pack('>HHQ', 60, 0, len(body)) + properties
    frames = [frame(METHOD, method(**fields), channel), frame(HEADER, header, channel)]
    starts = range(0, len(body), size)
    frames += [frame(BODY, body[start : start + size], channel) for start in starts]
    return b''.join(frames)


def delivery(body=b'body', **details):
    """Return the octets of a delivery with its body in one frame, or in none if it is empty."""
    return frames_of(body, len(body) or 1, **details)


class Source:
    """In place of a transport: a read buffer, and portions that arrive."""

    receives_into = False

    def __init__(self, portions):
        self._read_buffer = b''
        self.portions = list(portions)

    def receive(self, deadline):
        self._read_buffer += self.portions.pop(0)


class NothingIsKnown(method_framing.Deliveries):
    """Leaves all deliveries to the general way."""

    def learn(self, data, offset, message):
        size = struct.unpack_from('>I', data, offset + 3)[0]
        return AMQPReader(data[offset + 11 : offset + 7 + size])


def values_of(args, message):
    """Return the values of the fields of a delivery, or why they cannot be decoded."""
    if message.raw_delivery is not None:
        assert args.input == encode_once(DELIVER, *message.delivery_info.values())[4:]
        assert decode_arguments(DELIVER, args) == tuple(message.delivery_info.values())
        return message.delivery_info
    try:
        values = decode_arguments(DELIVER, args)
    except ProtocolError as error:
        return str(error)
    return dict(zip((name for name, _ in DELIVER.fields), values))


def read(portions, knowing=True):
    """Return the deliveries in portions of a stream as comparable values, and what ends it."""
    source = Source([FIRST, *portions])
    reader = MethodReader(source)
    reader.body_limit = LIMIT
    if not knowing:
        reader.deliveries = NothingIsKnown(reader.message_class)
        reader.short_ways.clear()
    error = None
    while source.portions:
        try:
            reader.receive(NEVER)
        except ProtocolError as caught:
            error = (caught.amqp_reply_code, caught.amqp_reply_text)
            break
    found = [
        (
            channel,
            signature,
            message and (values_of(args, message), message._serialize_properties(), message.body),
        )
        for channel, signature, args, message in reader.queue
    ]
    return found, error, source._read_buffer, reader.partial_messages.keys()


def short_ways(portions):
    """Return for each delivery whether it was taken the short way."""
    source = Source([FIRST, *portions])
    reader = MethodReader(source)
    reader.body_limit = LIMIT
    found = []
    take = reader.short_ways[DELIVER.prefix]

    def counting(data, offset, body_limit, queue):
        before = len(queue)
        following = take(data, offset, body_limit, queue)
        found.extend([True] * (len(queue) - before))
        return following

    reader.short_ways[DELIVER.prefix] = counting
    while source.portions:
        reader.receive(NEVER)
    return len(found)


def test_all_but_the_first_of_a_kind_are_taken_the_short_way():
    alike = [delivery(number=number, body=b'x' * number) for number in range(1, 50)]
    assert short_ways([b''.join(alike)]) == 48


def test_what_is_known_does_not_depend_on_the_size_of_the_header():
    keys = [f'key.{number:03}' for number in range(100)]
    sizes = [struct.pack('>HB', 0x8000, size) + b'x' * size for size in range(30)]
    first = [delivery(routing_key=key) for key in keys]
    first += [delivery(routing_key=keys[0], properties=one) for one in sizes]
    every = [delivery(routing_key=key, properties=one) for key in keys for one in sizes]
    assert short_ways([b''.join(first + every)]) == len(every)


def test_deliveries_that_are_known_do_not_fill_what_is_remembered():
    source = Source([FIRST, delivery()])
    reader = MethodReader(source)
    reader.receive(NEVER)
    reader.receive(NEVER)
    # In the middle of another content, deliveries go the general way.
    source.portions = [frames_of(b'x', 1, channel=2)[:-9], delivery() * 2000]
    reader.receive(NEVER)
    reader.receive(NEVER)
    assert reader.deliveries._count == 3


def test_two_consumers_that_take_turns_are_both_known():
    pair = delivery(tag='one') + delivery(tag='another', channel=2, exchange='')
    assert short_ways([pair * 10]) == 18


def test_what_is_taken_the_short_way_says_so_and_can_be_read_all_the_same():
    source = Source([FIRST, delivery() + delivery(number=2, redelivered=True)])
    reader = MethodReader(source)
    reader.receive(NEVER)
    reader.receive(NEVER)
    for number, (_, signature, args, message) in enumerate(list(reader.queue)[1:], 1):
        assert type(args) is DeliveryArguments
        assert signature == DELIVER.signature
        assert message.delivery_tag == number
        assert decode_arguments(DELIVER, args) == ('t', number, number == 2, 'e', 'k')


# What a delivery may be like, and whether it is read the same behind one that is known.
DELIVERIES = {
    'the same': delivery(),
    'another number': delivery(number=2**64 - 1),
    'redelivered': delivery(redelivered=True),
    'another consumer': delivery(tag='another'),
    'no tag': delivery(tag=''),
    'the octets in other fields': delivery(exchange='', routing_key='ek'),
    'a tag that takes the exchange': delivery(tag='t' * 2, exchange=''),
    'long names': delivery(tag='t' * 255, exchange='e' * 255, routing_key='k' * 255),
    'not ASCII': delivery(routing_key='é'),
    'another channel': delivery(channel=2),
    'no body': delivery(body=b''),
    'a body of the limit': delivery(body=b'x' * LIMIT),
    'a body beyond the limit': delivery(body=b'x' * (LIMIT + 1)),
    'properties': delivery(properties=b'\x80\0\x04text'),
    'two body frames': frames_of(b'bodybody', 4),
    'all bits': delivery().replace(b'\0\x01e', b'\xff\x01e', 1),
    'a name that is not UTF-8': delivery().replace(b'\x01k\xce', b'\xff\x00\xce', 1),
}


@pytest.mark.parametrize('name', DELIVERIES)
def test_a_delivery_is_read_whatever_is_known(name):
    for portions in ([delivery() * 2 + DELIVERIES[name] * 2 + delivery()], [DELIVERIES[name] * 3]):
        assert read(portions) == read(portions, knowing=False)


@pytest.mark.parametrize('octet', [0, 1, 2, 0x7F, 0xCE, 0xFF])
def test_any_octet_that_differs_is_noticed(octet):
    for place in range(len(delivery())):
        data = bytearray(delivery())
        data[place] = octet
        portions = [delivery() * 2 + bytes(data) + delivery()]
        assert read(portions) == read(portions, knowing=False), f'octet {place}'


def test_every_portion_of_deliveries_gives_the_same():
    stream = delivery() * 2 + delivery(body=b'other', properties=b'\x80\0\x04text')
    expected = read([stream], knowing=False)
    for split in range(1, len(stream)):
        assert read([stream[:split], stream[split:]])[0] == expected[0]


def test_a_delivery_in_the_middle_of_a_content_is_an_error():
    begun = delivery(body=b'12345678')[:-3]
    assert read([delivery() + begun[: -7 - 6] + delivery()])[1] is not None
    portions = [delivery() + frame(METHOD, method()) + delivery()]
    assert read(portions) == read(portions, knowing=False)
    assert read(portions)[1][0] == spec.UNEXPECTED_FRAME


def test_a_content_header_that_is_too_large_is_refused_without_its_octets():
    announced = struct.pack('>BHI', HEADER, 1, MAX_HEADER + 1)
    portions = [delivery() * 2 + frame(METHOD, method()) + announced + bytes(30)]
    assert read(portions) == read(portions, knowing=False)
    assert read(portions)[1][0] == spec.FRAME_ERROR


texts = st.text(max_size=5)
one_delivery = st.builds(
    delivery,
    body=st.binary(max_size=8),
    properties=st.sampled_from([b'\0\0', b'\x80\0\x04text', b'\x08\0\x01', b'\0\x01']),
    channel=st.sampled_from([1, 1, 2]),
    tag=st.sampled_from(['t', 't', 'another']),
    number=st.integers(0, 2**64 - 1),
    redelivered=st.booleans(),
    exchange=st.sampled_from(['', 'e', 'amq.topic']),
    routing_key=st.one_of(st.sampled_from(['k', 'key']), texts),
)


@given(st.lists(one_delivery, max_size=8), st.integers(0, 400))
@settings(deadline=None)
def test_generated_deliveries_are_read_as_the_general_way_reads_them(deliveries, split):
    stream = b''.join(deliveries)
    portions = [portion for portion in (stream[:split], stream[split:]) if portion]
    assert read(portions) == read(portions, knowing=False)


@given(st.lists(one_delivery, min_size=1, max_size=6), st.data())
@settings(deadline=None)
def test_deliveries_with_wrong_octets_are_read_as_the_general_way_reads_them(deliveries, data):
    stream = bytearray(b''.join(deliveries))
    for place in data.draw(st.lists(st.integers(0, len(stream) - 1), max_size=3)):
        stream[place] = data.draw(st.integers(0, 255))
    assert read([bytes(stream)]) == read([bytes(stream)], knowing=False)


def test_deliveries_for_a_target_go_there_and_nothing_else_does():
    source = Source([FIRST, delivery(), delivery(number=2) + delivery(number=3, channel=2) * 2])
    reader = MethodReader(source)
    for _ in range(2):
        reader.receive(NEVER)
    reader.queue.clear()
    target = deque()
    reader.deliveries.targets[1] = target
    while source.portions:
        reader.receive(NEVER)
    assert [message.delivery_tag for _, _, message in target] == [2]
    assert [method[0] for method in reader.queue] == [2, 2]


def test_a_delivery_does_not_overtake_what_is_on_the_queue():
    cancel = frame(METHOD, encode_once(spec.METHODS['basic.cancel'], 'other', True))
    source = Source([FIRST, delivery(), delivery(number=2) + cancel + delivery(number=3)])
    reader = MethodReader(source)
    for _ in range(2):
        reader.receive(NEVER)
    reader.queue.clear()
    target = deque()
    reader.deliveries.targets[1] = target
    reader.receive(NEVER)
    assert [message.delivery_tag for _, _, message in target] == [2]
    assert [method[1] for method in reader.queue] == [(60, 30), DELIVER.signature]


@memory.is_measured
def test_what_is_remembered_is_bounded():
    reader = MethodReader(Source([]))
    reader.source._read_buffer = FIRST
    reader.parse()
    with memory.traced() as traced_memory:
        for number in range(6000):
            reader.source._read_buffer = delivery(
                routing_key='k' * (number % 200) + f'{number:08}', tag=f'{number:020}'
            )
            reader.parse()
            reader.queue.clear()
        assert traced_memory()[0] < 3_000_000
