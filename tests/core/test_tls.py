"""What the `ssl` argument of a connection means. (Connections by it are tested with peers.)"""

import ssl

import pytest

from amqplib.core.tls import _KNOWN, make_context


def test_context_is_used_as_it_is():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    assert make_context(context, 'host') == (context, 'host')


@pytest.mark.parametrize(
    'options',
    [True, {}, {'ca_certs': None}, {'cert_reqs': None}, dict.fromkeys(sorted(_KNOWN))],
    ids=str,
)
def test_certificate_and_name_are_verified_by_default(options):
    context, name = make_context(options, 'host')
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert name == 'host'


@pytest.mark.parametrize(
    ('options', 'check_hostname', 'verify_mode'),
    [
        ({'check_hostname': False}, False, ssl.CERT_REQUIRED),
        ({'cert_reqs': ssl.CERT_NONE}, False, ssl.CERT_NONE),
        ({'cert_reqs': ssl.CERT_NONE, 'check_hostname': True}, False, ssl.CERT_NONE),
        ({'cert_reqs': ssl.CERT_OPTIONAL}, True, ssl.CERT_OPTIONAL),
    ],
    ids=str,
)
def test_verification_can_be_changed_by_saying_so(options, check_hostname, verify_mode):
    context, _ = make_context(options, 'host')
    assert (context.check_hostname, context.verify_mode) == (check_hostname, verify_mode)


def test_name_can_be_given():
    assert make_context({'server_hostname': 'other'}, 'host')[1] == 'other'


@pytest.mark.parametrize(
    ('host', 'name'),
    [('::1%1', '::1'), ('fe80::1%eth0', 'fe80::1'), ('a%b', 'a%b'), ('::1', '::1')],
)
def test_zone_is_no_part_of_the_name_to_be_verified(host, name):
    assert make_context(True, host)[1] == name
    assert make_context({'server_hostname': 'example.org'}, host)[1] == 'example.org'


def test_ciphers():
    context, _ = make_context({'ciphers': 'ECDHE+AESGCM'}, 'host')
    assert {cipher['name'] for cipher in context.get_ciphers()} != {
        cipher['name'] for cipher in make_context(True, 'host')[0].get_ciphers()
    }


@pytest.mark.parametrize(
    ('options', 'error', 'words'),
    [
        ({'verify': True}, TypeError, "unknown option 'verify'"),
        ({'ca_certs': None, 'verify': 1, 'name': 2}, TypeError, "unknown option 'name', 'verify'"),
        ({'server_side': True}, ValueError, 'server_side'),
        ({'ca_certs': '/no/such/file'}, OSError, '/no/such/file'),
        ({'ciphers': 'NONE-SUCH'}, (ValueError, ssl.SSLError), 'ciphers'),
    ],
    ids=str,
)
def test_wrong_option_is_named(options, error, words):
    with pytest.raises(error, match=words):
        make_context(options, 'host')
