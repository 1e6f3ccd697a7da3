"""What the tests do between the examples of threads.rst; CONTRIBUTING.txt says how."""

# %% Web applications: after

ch.queue_declare('orders', durable=True, auto_delete=False)
threads = [threading.Thread(target=view, args=(order,)) for order in ('tea', 'cake')]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert sorted(ch.basic_get('orders', no_ack=True).body for _ in threads) == ['cake', 'tea']

# After a loss.
channels.conn.close()
view('more tea')
assert ch.basic_get('orders', no_ack=True).body == 'more tea'
channels.conn.close()
