"""The login: the SASL mechanisms that the client supports."""

from __future__ import annotations

from typing import Any, Callable, Optional, Union

from amqplib.core.serialization import encode_table
from amqplib.core.spec import FRAME_MIN_SIZE
from amqplib.exceptions import LoginRefused


def _plain(userid: str, password: str) -> bytes:
    return f'\0{userid}\0{password}'.encode()


def _amqplain(userid: str, password: str) -> bytes:
    # A field table without its length.
    return encode_table({'LOGIN': userid, 'PASSWORD': password})[4:]


def _external(userid: str, password: str) -> bytes:
    # The TLS certificate identifies the user.
    return b''


#: Mechanism -> its response for a user and a password; the preferred one first.
MECHANISMS: dict[str, Callable[[str, str], bytes]] = {
    'AMQPLAIN': _amqplain,
    'PLAIN': _plain,
    'EXTERNAL': _external,
}


class Login:
    """The credentials of a connection.

    userid, password: str, or None if they are not needed.
    method: the mechanism; None for one that the broker offers.
    response: bytes that are sent unchanged, instead of user and password.

    Raises TypeError if something is missing, ValueError for an unknown mechanism.
    """

    def __init__(
        self,
        userid: Optional[str],
        password: Optional[str],
        method: Optional[str],
        response: Optional[Union[str, bytes]],
    ) -> None:
        if response is None:
            if method is not None and method not in MECHANISMS:
                text = 'login_method: {!r} needs a login_response; known are {}'
                raise ValueError(text.format(method, ', '.join(MECHANISMS)))
            if method != 'EXTERNAL':
                _check_text('userid', userid)
                _check_text('password', password)
        self._userid = userid or ''
        self._password = password or ''
        self._method = method
        self._response = response

    def choose(self, offered: list[str]) -> tuple[str, Union[str, bytes]]:
        """Return the mechanism to use and its response, given the mechanisms that are offered.

        Raises LoginRefused if the broker offers no usable mechanism.
        """
        if self._response is not None:
            return self._method or 'AMQPLAIN', self._response
        if self._method is not None:
            usable = [self._method] if self._method in offered else []
        else:
            usable = [mechanism for mechanism in MECHANISMS if mechanism in offered]
        if not usable:
            text = 'the broker offers the mechanisms {}, not {}'
            wanted = self._method or ', '.join(MECHANISMS)
            raise LoginRefused(0, text.format(', '.join(offered) or 'none', wanted))
        return usable[0], MECHANISMS[usable[0]](self._userid, self._password)


def likely_cause(size: int, parts: dict[str, int]) -> str:
    """Return why a broker may have hung up silently during a login.

    size: the size of the login's frame in bytes.
    parts: name of an argument -> how many bytes of the frame it takes.
    """
    if size <= FRAME_MIN_SIZE:
        return 'user or password may be wrong'
    largest = max(parts, key=parts.__getitem__)
    return (
        f'its frame of {size} bytes may be too large for the broker, of which {largest} takes '
        f'{parts[largest]}; {FRAME_MIN_SIZE} is what every broker allows'
    )


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise TypeError(f'{name}: a str is needed, or a login_response')
    # Not with the codec's error, which shows the text.
    if value.encode(errors='replace') != value.encode(errors='surrogatepass'):
        raise ValueError(f'{name}: it cannot be encoded as UTF-8')
