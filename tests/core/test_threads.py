"""The library's own threads, and where no thread can be started."""

import threading

import pytest

from amqplib.core import threads


def test_thread_is_a_daemon_with_a_name():
    ran = []

    def run(*args):
        ran.append((args, threading.current_thread()))

    thread = threads.start('a name', run, 1)
    thread.join(30)
    assert ran == [((1,), thread)]
    assert thread.name == 'a name'
    assert thread.daemon


def test_threads_can_be_started():
    before = threading.active_count()
    assert threads.can_be_started()
    assert threading.active_count() == before


def test_where_there_can_be_none_nothing_is_started(monkeypatch, caplog):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, 'start', refuse)
    with caplog.at_level('DEBUG', logger='amqplib'):
        assert threads.start('a name', pytest.fail) is None
    assert caplog.messages == ["no thread for a name: can't start new thread"]
    assert not threads.can_be_started()
