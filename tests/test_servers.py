"""The servers that other tests stand on: they start empty, stop, and start again as one expects of them."""

import signal

import psycopg
import pytest
import redis as redis_client

from tests import servers


def test_postgresql_keeps_what_was_committed_however_it_stops():
    with servers.postgresql() as server:
        name = server.create_database().rpartition("/")[2]
        with server.connect(name) as connection:
            connection.execute("CREATE TABLE kept (number int)")
        for count, end in enumerate((server.stop, lambda: server.stop(signal.SIGQUIT), server.kill), 1):
            with server.connect(name) as connection:
                connection.execute("INSERT INTO kept VALUES (%s)", [count])
            end()
            with pytest.raises(psycopg.OperationalError):
                server.connect(name)
            server.start()
            with server.connect(name) as connection:
                assert connection.execute("SELECT count(*) FROM kept").fetchone() == (count,)
        copy = server.create_database(template=name).rpartition("/")[2]
        with server.connect(copy) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (3,)
    assert not server.folder.exists()


def test_redis_is_empty_after_a_start():
    with servers.redis() as server:
        with redis_client.Redis.from_url(server.url) as client:
            client.set("key", "value")
        server.kill()
        server.start()
        with server.connect() as client:
            assert client.dbsize() == 0
    assert not server.folder.exists()
