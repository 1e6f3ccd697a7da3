"""What the tests do between the examples of testing.rst; CONTRIBUTING.txt says how."""

# %% With pytest: after

from amqplib.testing import Broker

with Broker() as broker:
    test_a_greeting_names_its_recipient(broker)

# %% A program that consumes: after

from amqplib.testing import Broker

with Broker() as broker:
    test_orders_are_worked_on_in_their_order(broker)

# %% Errors and lost connections: before

from amqplib.testing import Broker

# %% Errors and lost connections: after

broker.close()

# %% A broker that is slow: before

from amqplib.testing import Broker
