"""The fast paths find the same methods as the general way does, and the same errors."""

import struct
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqplib.client_0_9_1.spec import METHODS, PROTOCOL
from amqplib.core import spec
from amqplib.core.arguments import (
    compile_decoder,
    compile_encoder,
    decode_acknowledgement,
)
from amqplib.core.fast_decoding import (
    MAX_HEADER,
    MAX_REMEMBERED,
    ConfirmFrames,
    Deliveries,
    DeliveryArguments,
)
from amqplib.core.message import Message
from amqplib.core.spec import ACK, DELIVER
from amqplib.exceptions import MessageTooLarge, ProtocolError
from tests.helpers import memory
from tests.helpers.frames import BODY, FIRST, HEADER, METHOD, AllOpen, new_decoder, split
from tests.helpers.frames import frame as frame_on

LIMIT = 1000
encode_delivery = compile_encoder(DELIVER, {})
decode_delivery = compile_decoder(DELIVER)

# --- Deliveries ---


def frame(frame_type, payload, channel=1, end=b'\xce'):
    return frame_on(frame_type, channel, payload, end)


def method(tag='t', number=1, redelivered=False, exchange='e', routing_key='k'):
    return encode_delivery(tag, number, redelivered, exchange, routing_key)


def frames_of(body, size, properties=b'\0\0', channel=1, **fields):
    """Return the bytes of a delivery with its body in frames of that size."""
    header = struct.pack('>HHQ', 60, 0, len(body)) + properties
    frames = [frame(METHOD, method(**fields), channel), frame(HEADER, header, channel)]
    starts = range(0, len(body), size)
    frames += [frame(BODY, body[start : start + size], channel) for start in starts]
    return b''.join(frames)


def delivery(body=b'body', **details):
    """Return the bytes of a delivery with its body in one frame, or in none if it is empty."""
    return frames_of(body, len(body) or 1, **details)


def values_of(args, message):
    """Return the values of the fields of a delivery, or why they cannot be decoded."""
    if message.raw_delivery is not None:
        values = tuple(message.delivery_info.values())
        assert args.input == encode_delivery(*values)[4:]
        assert decode_delivery(args) == values
        return message.delivery_info
    try:
        values = decode_delivery(args)
    except ProtocolError as error:
        return str(error)
    return dict(zip((name for name, _ in DELIVER.fields), values))


def read(portions, fast=True):
    """Return the deliveries in portions of a stream as comparable values, and what ends it.

    fast: whether they are recognised as a whole; else they are taken frame by frame.
    """
    decoder = new_decoder(LIMIT)
    if not fast:
        decoder.fast_paths.clear()
        portions = split(b''.join(portions))
    error = None
    try:
        for portion in [FIRST, *portions]:
            decoder.take(portion)
    except ProtocolError as caught:
        error = (caught.amqp_reply_code, caught.amqp_reply_text)
    found = [
        (
            channel,
            signature,
            message and (values_of(args, message), message._serialize_properties(), message.body),
        )
        for channel, (signature, args, message) in decoder.queue
    ]
    if error is None:
        return found, None, decoder.incomplete, decoder.partial_messages.keys()
    return found, error


class Counting:
    """A fast path, and how many methods it has taken."""

    def __init__(self, path):
        self.path = path
        self.prefix = path.prefix
        self.count = 0

    def take(self, data, offset, body_limit, queue):
        before = len(queue)
        following = self.path.take(data, offset, body_limit, queue)
        self.count += len(queue) - before
        return following


def taken_fast(portions):
    """Return how many deliveries the fast path takes."""
    decoder = new_decoder(LIMIT)
    path = Counting(decoder.fast_paths[DELIVER.prefix])
    decoder.add_fast_path(path)
    for portion in [FIRST, *portions]:
        decoder.take(portion)
    return path.count


def test_all_but_the_first_of_a_kind_are_taken_fast():
    alike = [delivery(number=number, body=b'x' * number) for number in range(1, 50)]
    assert taken_fast([b''.join(alike)]) == 48


def test_the_fast_path_knows_deliveries_whatever_the_size_of_their_headers():
    keys = [f'key.{number:03}' for number in range(100)]
    sizes = [struct.pack('>HB', 0x8000, size) + b'x' * size for size in range(30)]
    first = [delivery(routing_key=key) for key in keys]
    first += [delivery(routing_key=keys[0], properties=one) for one in sizes]
    every = [delivery(routing_key=key, properties=one) for key in keys for one in sizes]
    assert taken_fast([b''.join(first + every)]) == len(every)


def test_deliveries_that_are_known_do_not_fill_what_is_remembered():
    decoder = new_decoder(LIMIT)
    path = decoder.fast_paths.pop(DELIVER.prefix)
    decoder.take(FIRST + delivery())
    (kind,) = path.kinds.values()
    decoder.take(delivery() * (MAX_REMEMBERED + 1))
    assert len(decoder.queue) == 1 + 1 + MAX_REMEMBERED + 1
    assert list(path.kinds.values()) == [kind]


def test_two_consumers_that_take_turns_are_both_known():
    pair = delivery(tag='one') + delivery(tag='another', channel=2, exchange='')
    assert taken_fast([pair * 10]) == 18


def test_deliveries_of_the_fast_path_have_arguments_of_their_own_class():
    decoder = new_decoder(LIMIT)
    decoder.take(FIRST + delivery() + delivery(number=2, redelivered=True))
    for number, (_, (signature, args, message)) in enumerate(list(decoder.queue)[1:], 1):
        assert type(args) is DeliveryArguments
        assert signature == DELIVER.signature
        assert message.delivery_tag == number
        assert decode_delivery(args) == ('t', number, number == 2, 'e', 'k')


# What a delivery may be like, and whether it is read the same behind one that is known.
DELIVERIES = {
    'the same': delivery(),
    'another number': delivery(number=2**64 - 1),
    'redelivered': delivery(redelivered=True),
    'another consumer': delivery(tag='another'),
    'no tag': delivery(tag=''),
    'the bytes in other fields': delivery(exchange='', routing_key='ek'),
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
        assert read(portions) == read(portions, fast=False)


@pytest.mark.parametrize('byte', [0, 1, 2, 0x7F, 0xCE, 0xFF])
def test_any_byte_that_differs_is_noticed(byte):
    for place in range(len(delivery())):
        data = bytearray(delivery())
        data[place] = byte
        portions = [delivery() * 2 + bytes(data) + delivery()]
        assert read(portions) == read(portions, fast=False), f'byte {place}'


def test_every_portion_of_deliveries_gives_the_same():
    stream = delivery() * 2 + delivery(body=b'other', properties=b'\x80\0\x04text')
    expected = read([stream], fast=False)
    for edge in range(1, len(stream)):
        assert read([stream[:edge], stream[edge:]])[0] == expected[0]


def test_a_delivery_in_the_middle_of_a_content_is_an_error():
    begun = delivery(body=b'12345678')[:-3]
    assert read([delivery() + begun[: -7 - 6] + delivery()])[1] is not None
    portions = [delivery() + frame(METHOD, method()) + delivery()]
    assert read(portions) == read(portions, fast=False)
    assert read(portions)[1][0] == spec.UNEXPECTED_FRAME


def test_a_content_header_that_is_too_large_is_refused_without_its_bytes():
    announced = struct.pack('>BHI', HEADER, 1, MAX_HEADER + 1)
    portions = [delivery() * 2 + frame(METHOD, method()) + announced + bytes(30)]
    assert read(portions) == read(portions, fast=False)
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
def test_generated_deliveries_are_read_as_the_general_way_reads_them(deliveries, split):
    stream = b''.join(deliveries)
    portions = [portion for portion in (stream[:split], stream[split:]) if portion]
    assert read(portions) == read(portions, fast=False)


@given(st.lists(one_delivery, min_size=1, max_size=6), st.data())
def test_deliveries_with_wrong_bytes_are_read_as_the_general_way_reads_them(deliveries, data):
    stream = bytearray(b''.join(deliveries))
    for place in data.draw(st.lists(st.integers(0, len(stream) - 1), max_size=3)):
        stream[place] = data.draw(st.integers(0, 255))
    assert read([bytes(stream)]) == read([bytes(stream)], fast=False)


def test_deliveries_for_a_target_go_there_and_nothing_else_does():
    inboxes = AllOpen()
    decoder = new_decoder(LIMIT, inboxes)
    decoder.take(FIRST + delivery())
    decoder.queue.clear()
    target = inboxes.get(1).delivery_queue = deque()
    decoder.take(delivery(number=2) + delivery(number=3, channel=2) * 2)
    assert [message.delivery_tag for _, _, message in target] == [2]
    assert [channel for channel, _ in decoder.queue] == [2, 2]


def test_a_delivery_does_not_overtake_what_is_on_the_queue():
    cancel = frame(METHOD, compile_encoder(METHODS['basic.cancel'], {})('other', True))
    inboxes = AllOpen()
    decoder = new_decoder(LIMIT, inboxes)
    decoder.take(FIRST + delivery())
    decoder.queue.clear()
    target = inboxes.get(1).delivery_queue = deque()
    decoder.take(delivery(number=2) + cancel + delivery(number=3))
    assert [message.delivery_tag for _, _, message in target] == [2]
    assert [signature for _, (signature, _, _) in decoder.queue] == [(60, 30), DELIVER.signature]


def test_a_delivery_for_a_channel_that_is_not_open_is_left_to_the_session():
    path = Deliveries(Message, {})
    message = Message.received(b'\0\0', b'body')
    path.remember(delivery(), 0, message)
    queue = deque()
    assert path.take(delivery() * 2, 0, LIMIT, queue) == 2 * len(delivery())
    assert [channel for channel, _ in queue] == [1, 1]


@pytest.mark.parametrize('cut', range(1, len(delivery())))
def test_deliveries_behind_one_that_comes_in_two_parts_go_to_the_target(cut):
    inboxes = AllOpen()
    decoder = new_decoder(LIMIT, inboxes)
    target = inboxes.get(1).delivery_queue = deque()
    data = b''.join(delivery(number=number) for number in range(4))
    decoder.take(FIRST)
    decoder.queue.clear()
    decoder.take(data[:cut])
    decoder.take(data[cut:])
    assert not decoder.queue
    numbers = [values_of(args, message)['delivery_tag'] for _, args, message in target]
    assert numbers == [0, 1, 2, 3]


@pytest.mark.parametrize('body', [b'', b'in one frame', b'in frames of ten bytes'])
def test_a_delivery_of_any_shape_goes_to_the_target_but_not_past_the_queue(body):
    inboxes = AllOpen()
    decoder = new_decoder(LIMIT, inboxes)
    target = inboxes.get(1).delivery_queue = deque()
    data = frames_of(body, 10)
    decoder.take(FIRST)  # stays on the queue
    decoder.take(data)
    assert (len(decoder.queue), len(target)) == (2, 0)
    decoder.queue.clear()
    decoder.take(data)
    assert (len(decoder.queue), len(target)) == (0, 1)


@memory.is_measured
def test_the_known_deliveries_are_bounded():
    decoder = new_decoder(LIMIT)
    decoder.take(FIRST)
    with memory.traced() as traced_memory:
        for number in range(6000):
            decoder.take(
                delivery(routing_key='k' * (number % 200) + f'{number:08}', tag=f'{number:020}')
            )
            decoder.queue.clear()
        assert traced_memory()[0] < 3_000_000


def test_arguments_of_a_delivery_have_no_other_attributes():
    (_, (_, args, _)) = taken(delivery() * 2)[-1]
    with pytest.raises(AttributeError, match='nothing'):
        args.nothing  # noqa: B018


def taken(data):
    decoder = new_decoder(LIMIT)
    decoder.take(FIRST + data)
    return decoder.queue


def test_too_large_a_message_is_refused_after_others_like_it():
    decoder = new_decoder(max_message_size=100)
    decoder.take(FIRST)
    for size in (90, 90, 90, 100):
        decoder.take(delivery(b'x' * size))
    assert len(decoder.queue) == 5
    with pytest.raises(MessageTooLarge):
        decoder.take(delivery(b'x' * 101))


# --- Confirms ---


def ack(number, bits=0, channel=1, end=b'\xce'):
    return frame_on(1, channel, ACK.prefix + struct.pack('>QB', number, bits), end)


def nack(number, channel=1):
    return frame_on(1, channel, METHODS['basic.nack'].prefix + struct.pack('>QB', number, 0))


def returned(channel=1):
    method = METHODS['basic.return'].prefix + b'\x01\x38\x00\x00\x00'
    header = struct.pack('>HHQ', 60, 0, 4) + b'\0\0'
    return (
        frame_on(1, channel, method) + frame_on(2, channel, header) + frame_on(3, channel, b'body')
    )


class Confirmed:
    """What was found in portions of a stream, in its order.

    channels: those whose confirms take the fast path.
    drain: behind which portions the queue is emptied.
    """

    def __init__(self, portions, channels, drain):
        self.read = []
        self.fast = 0
        inboxes = AllOpen()
        for channel in channels:
            inboxes.get(channel).take_confirm = self.settler(channel)
        self.decoder = new_decoder(LIMIT, inboxes, PROTOCOL)
        self.decoder.add_fast_path(ConfirmFrames(inboxes))
        self.decoder.take(FIRST)
        self.decoder.queue.clear()
        self.error = None
        for number, portion in enumerate(portions):
            try:
                self.decoder.take(portion)
            except ProtocolError as error:
                self.error = (error.amqp_reply_code, error.amqp_reply_text)
                break
            if drain[number % len(drain)]:
                self.empty_queue()
        self.empty_queue()

    def settler(self, channel):
        def settle(number, multiple):
            assert not self.decoder.queue
            self.read.append((channel, ACK.signature, (number, multiple)))
            self.fast += 1

        return settle

    def empty_queue(self):
        queue = self.decoder.queue
        while queue:
            channel, (signature, args, _) = queue.popleft()
            if signature == ACK.signature:
                try:
                    args = decode_acknowledgement(ACK, args)
                except ProtocolError as error:
                    args = str(error)
            else:
                args = args.input
            self.read.append((channel, signature, args))


KINDS = [
    ack(1),
    ack(2, 1),
    ack(2**64 - 1, 0xFF),
    ack(0, 1),
    ack(7, channel=2),
    ack(7, channel=3),
    nack(3),
    returned(),
    frame_on(8, 0, b''),
    frame_on(1, 1, ACK.prefix + bytes(8)),  # too short
    frame_on(1, 1, ACK.prefix + bytes(10)),  # too long
    ack(9, end=b'\xcf'),
    frame_on(2, 1, ACK.prefix + bytes(9)),  # not a method
]


@settings(max_examples=300)
@given(
    st.lists(st.sampled_from(KINDS), min_size=1, max_size=30).map(b''.join),
    st.data(),
)
def test_confirms_are_the_same_as_those_of_the_general_way(stream, data):
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=5)))
    portions = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)])]
    drain = data.draw(st.lists(st.booleans(), min_size=1, max_size=4))
    fast = Confirmed(portions, [1, 2], drain)
    general = Confirmed(portions, [], drain)
    assert (fast.read, fast.error) == (general.read, general.error)
    assert fast.decoder.incomplete == general.decoder.incomplete


def test_many_confirms_all_take_the_fast_path():
    confirmed = Confirmed([b''.join(map(ack, range(1, 100)))], [1], [False])
    assert confirmed.fast == 99


def test_what_was_returned_comes_before_its_confirm():
    confirmed = Confirmed([ack(1) + returned() + ack(2)], [1], [False])
    assert [signature[1] for _, signature, _ in confirmed.read] == [80, 50, 80]
    assert confirmed.fast == 1


@pytest.mark.parametrize('channels', [[], [2]])
def test_confirms_of_channels_without_a_fast_path_are_left_to_the_decoder(channels):
    confirmed = Confirmed([ack(1)], channels, [False])
    assert confirmed.read == [(1, ACK.signature, (1, False))]
    assert confirmed.fast == 0


def test_confirms_are_left_to_the_decoder_once_their_channel_takes_none():
    inboxes = AllOpen()
    path = ConfirmFrames(inboxes)
    settled = []
    inboxes.get(1).take_confirm = lambda *confirm: settled.append(confirm)
    assert path.take(ack(1), 0, LIMIT, deque()) == len(ack(1))
    inboxes.get(1).take_confirm = None
    assert path.take(ack(2), 0, LIMIT, deque()) == 0
    inboxes[1].take_confirm = lambda *confirm: settled.append(confirm)
    assert path.take(ack(2), 0, LIMIT, deque([None])) == 0, 'it would overtake the queue'
    assert settled == [(1, False)]


def test_confirm_on_a_channel_that_is_not_open_is_left():
    assert ConfirmFrames({}).take(ack(1), 0, LIMIT, deque()) == 0


def test_the_fast_path_stops_at_a_wrong_confirm():
    inboxes = AllOpen()
    settled = []

    def settle(number, multiple):
        settled.append(number)
        raise ProtocolError(503, 'wrong')

    inboxes.get(1).take_confirm = settle
    with pytest.raises(ProtocolError, match='wrong'):
        ConfirmFrames(inboxes).take(ack(1) + ack(2), 0, LIMIT, deque())
    assert settled == [1]
