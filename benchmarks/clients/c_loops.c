/* What the other clients do in Python, done in C with librabbitmq.
 *
 * Functions that return an int return -1 on failure; loops_error tells why.
 */
#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHANNEL 1
#define FRAME_MAX 131072

struct loops {
    amqp_connection_state_t connection;
    amqp_bytes_t queue;
    char queue_name[256];
    amqp_bytes_t last_body;
    int received;
    int channels; /* open, without CHANNEL */
    char error[256];
};

static int fail(struct loops *loops, const char *what, const char *why) {
    snprintf(loops->error, sizeof loops->error, "%s: %s", what, why);
    return -1;
}

static int check(struct loops *loops, const char *what, amqp_rpc_reply_t reply) {
    if (reply.reply_type == AMQP_RESPONSE_NORMAL)
        return 0;
    if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION)
        return fail(loops, what, amqp_error_string2(reply.library_error));
    return fail(loops, what, "the broker closed the channel or the connection");
}

static int check_last(struct loops *loops, const char *what) {
    return check(loops, what, amqp_get_rpc_reply(loops->connection));
}

static int log_in(struct loops *loops) {
    amqp_rpc_reply_t reply = amqp_login(loops->connection, "/", 0, FRAME_MAX, 0,
                                        AMQP_SASL_METHOD_PLAIN, "guest", "guest");
    if (check(loops, "login", reply) < 0)
        return -1;
    amqp_channel_open(loops->connection, CHANNEL);
    return check_last(loops, "channel.open");
}

void loops_close(struct loops *loops) {
    amqp_connection_close(loops->connection, AMQP_REPLY_SUCCESS);
    amqp_destroy_connection(loops->connection);
    amqp_bytes_free(loops->last_body);
    free(loops);
}

/* Returns NULL on failure. */
struct loops *loops_open(const char *host, int port) {
    struct loops *loops = calloc(1, sizeof *loops);
    loops->connection = amqp_new_connection();
    amqp_socket_t *socket = amqp_tcp_socket_new(loops->connection);
    if (socket && amqp_socket_open(socket, host, port) == 0 && log_in(loops) == 0)
        return loops;
    amqp_destroy_connection(loops->connection);
    free(loops);
    return NULL;
}

const char *loops_error(struct loops *loops) { return loops->error; }

/* Returns how many messages are ready. */
int loops_declare(struct loops *loops, const char *queue) {
    snprintf(loops->queue_name, sizeof loops->queue_name, "%s", queue);
    loops->queue = amqp_cstring_bytes(loops->queue_name);
    amqp_queue_declare_ok_t *ok = amqp_queue_declare(
        loops->connection, CHANNEL, loops->queue, 1, 0, 0, 0, amqp_empty_table);
    if (check_last(loops, "queue.declare") < 0)
        return -1;
    return ok->message_count;
}

int loops_publish(struct loops *loops, int count, const char *body, size_t size) {
    amqp_bytes_t octets = {size, (void *)body};
    for (int i = 0; i < count; i++) {
        amqp_basic_properties_t properties;
        properties._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG;
        properties.content_type = amqp_cstring_bytes("text/plain");
        properties.delivery_mode = 2;
        int status = amqp_basic_publish(loops->connection, CHANNEL, amqp_empty_bytes,
                                        loops->queue, 0, 0, &properties, octets);
        if (status != AMQP_STATUS_OK)
            return fail(loops, "basic.publish", amqp_error_string2(status));
    }
    return 0;
}

/* The last body is copied; the time for that is part of the work. */
static void keep_body(struct loops *loops, amqp_bytes_t body) {
    amqp_bytes_free(loops->last_body);
    loops->last_body = amqp_bytes_malloc_dup(body);
}

const void *loops_last_body(struct loops *loops, size_t *size) {
    *size = loops->last_body.len;
    return loops->last_body.bytes;
}

typedef void (*callback_t)(struct loops *loops, amqp_envelope_t *envelope);

static void count_message(struct loops *loops, amqp_envelope_t *envelope) {
    (void)envelope;
    loops->received++;
}

static void count_and_ack_message(struct loops *loops, amqp_envelope_t *envelope) {
    amqp_basic_ack(loops->connection, CHANNEL, envelope->delivery_tag, 0);
    loops->received++;
}

static int receive(struct loops *loops, int count, callback_t callback) {
    loops->received = 0;
    while (loops->received < count) {
        amqp_envelope_t envelope;
        amqp_maybe_release_buffers(loops->connection);
        amqp_rpc_reply_t reply = amqp_consume_message(loops->connection, &envelope, NULL, 0);
        if (check(loops, "basic.deliver", reply) < 0)
            return -1;
        callback(loops, &envelope);
        if (loops->received == count)
            keep_body(loops, envelope.message.body);
        amqp_destroy_envelope(&envelope);
    }
    return 0;
}

/* prefetch: 0 to receive without acknowledgements. */
int loops_consume(struct loops *loops, int count, int prefetch) {
    if (prefetch) {
        amqp_basic_qos(loops->connection, CHANNEL, 0, prefetch, 0);
        if (check_last(loops, "basic.qos") < 0)
            return -1;
    }
    amqp_basic_consume(loops->connection, CHANNEL, loops->queue, amqp_empty_bytes, 0,
                       prefetch == 0, 0, amqp_empty_table);
    if (check_last(loops, "basic.consume") < 0)
        return -1;
    return receive(loops, count, prefetch ? count_and_ack_message : count_message);
}

static int get_one(struct loops *loops, int keep) {
    amqp_message_t message;
    amqp_maybe_release_buffers(loops->connection);
    amqp_rpc_reply_t reply = amqp_basic_get(loops->connection, CHANNEL, loops->queue, 1);
    if (check(loops, "basic.get", reply) < 0)
        return -1;
    if (reply.reply.id != AMQP_BASIC_GET_OK_METHOD)
        return fail(loops, "basic.get", "the queue is empty");
    if (check(loops, "message", amqp_read_message(loops->connection, CHANNEL, &message, 0)) < 0)
        return -1;
    if (keep)
        keep_body(loops, message.body);
    amqp_destroy_message(&message);
    return 0;
}

int loops_get(struct loops *loops, int count) {
    for (int i = 1; i <= count; i++)
        if (get_one(loops, i == count) < 0)
            return -1;
    return 0;
}

int loops_open_channels(struct loops *loops, int count) {
    for (int i = 0; i < count; i++) {
        amqp_channel_open(loops->connection, CHANNEL + ++loops->channels);
        if (check_last(loops, "channel.open") < 0)
            return -1;
    }
    return 0;
}
