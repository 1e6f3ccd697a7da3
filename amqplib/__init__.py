"""A synchronous, blocking AMQP client that needs only the standard library.

Import the package for your version of the protocol::

    import amqplib.client_0_8 as amqp
"""

__version__ = '2.0.0'
