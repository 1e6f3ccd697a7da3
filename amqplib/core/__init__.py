"""What the clients have in common: nothing here knows which version of AMQP is spoken.

Programs import one of the clients, and ``amqplib.exceptions``; these modules may change.
"""
