"""The two packages, for tests that run for both, and marks for those that are about one of them."""

import pytest

import amqplib.client_0_8 as CLIENT_0_8
import amqplib.client_0_9_1 as CLIENT_0_9_1

PACKAGES = [pytest.param(CLIENT_0_8, id='0-8'), pytest.param(CLIENT_0_9_1, id='0-9-1')]

#: Marks for tests of what only one of the packages has, or does in this way; or of what is the same
#: code in both, where the test takes long.
only_0_8 = pytest.mark.parametrize('amqp', PACKAGES[:1], indirect=True)
only_0_9_1 = pytest.mark.parametrize('amqp', PACKAGES[1:], indirect=True)

#: For tests of the shared core that take long: 0-8 is left to the soak tests.
mostly_0_9_1 = pytest.mark.parametrize(
    'amqp',
    [pytest.param(CLIENT_0_8, id='0-8', marks=pytest.mark.soak), PACKAGES[1]],
    indirect=True,
)
