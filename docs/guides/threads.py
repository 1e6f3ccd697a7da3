"""What the tests do between the examples of threads.rst; CONTRIBUTING.txt says how."""

# %% Web applications: after

from threading import Thread

threads = [Thread(target=view, args=(order,)) for order in ('tea', 'cake')]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert sorted(ch.basic_get('orders', no_ack=True).body for _ in threads) == ['cake', 'tea']
publisher.close()
