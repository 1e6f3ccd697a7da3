"""A synchronous, blocking AMQP client that needs only the standard library.

A new program imports the client for AMQP 0-9-1, which every RabbitMQ speaks::

    import amqplib.client_0_9_1 as amqp

Programs that were written for amqplib 1.0.2 import amqplib.client_0_8, which has the same names.
"""

__version__ = '2.1.0.dev0'
