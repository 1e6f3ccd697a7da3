"""The stages of a connection, seen from the broker."""

# In their order; each but the last three is named by what comes next.
HEADER, START_OK, TUNE_OK, OPEN, RUNNING, CLOSING, CLOSED = range(7)

#: How long RabbitMQ is silent before it hangs up on a client that it does not let in, in seconds.
SILENCE = 3.0
