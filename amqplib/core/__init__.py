"""The code that the clients share. Nothing here depends on a version of AMQP.

Programs import one of the clients, or ``amqplib.exceptions``; the modules here may change.
"""
