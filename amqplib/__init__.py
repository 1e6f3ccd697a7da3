"""A synchronous, blocking AMQP client that needs nothing but the standard library.

Import the package of the protocol version you speak::

    import amqplib.client_0_8 as amqp
"""

__version__ = '2.0.0'
