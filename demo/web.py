#!/usr/bin/env python3
"""A web server that answers a POST when its body is safe in the queue 'tasks', from any thread.

    curl --data hello http://localhost:8000

The answer is 204, or 503 if the message is not known to be safe.
"""

import contextlib
import http.server
import os
import sys

import amqplib.client_0_9_1 as amqp


def declare(ch):
    ch.queue_declare('tasks', durable=True, auto_delete=False)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers['Content-Length']))
        try:
            publisher.publish(amqp.Message(body, delivery_mode=2), routing_key='tasks')
        except amqp.AMQPException as error:
            self.send_error(503, explain=str(error))
            return
        self.send_response(204)
        self.end_headers()


if __name__ == '__main__':
    url = sys.argv[1] if sys.argv[1:] else 'amqp://localhost'
    publisher = amqp.Publisher(url, declare, timeout=30, heartbeat=15)
    address = '127.0.0.1', int(os.environ.get('PORT', '8000'))
    server = http.server.ThreadingHTTPServer(address, Handler)
    with publisher, contextlib.suppress(KeyboardInterrupt):
        print('listening on port', server.server_port, flush=True)
        server.serve_forever()
