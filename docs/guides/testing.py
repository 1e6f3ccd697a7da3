"""What the tests do between the examples of testing.rst; CONTRIBUTING.txt says how."""

# %% With pytest: after

from amqplib.testing import Broker

with Broker() as broker:
    test_a_greeting_names_its_recipient(broker)

# %% Connections that fail: before

from amqplib.testing import Broker

# %% Connections that fail: after

broker.close()

# %% A broker that is slow: before

from amqplib.testing import Broker
