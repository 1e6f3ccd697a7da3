"""The command line: ``python -m amqplib``, and the script ``amqplib``."""
