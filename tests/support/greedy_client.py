"""A client that never pauses: python -m tests.support.greedy_client PORT ADDRESS CONNECTIONS < REQUEST.

Each connection is from ADDRESS, sends the request, reads the answer to its end and makes place for the next one. Prints
a line when the first answer has come, goes on until its standard input closes, and then prints how often each status
was answered, as JSON. REQUEST is one line, with \\r\\n for the ends of its own.
"""

import errno
import json
import selectors
import socket
import sys
import threading
from collections import Counter


def main(port: str, address: str, number: str) -> None:
    request = sys.stdin.readline().strip().replace("\\r\\n", "\r\n").encode()
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    selector, answered = selectors.DefaultSelector(), Counter()

    def begin() -> None:
        client = socket.socket()
        client.bind((address, 0))
        client.setblocking(False)
        assert client.connect_ex(("127.0.0.1", int(port))) in (0, errno.EINPROGRESS)
        selector.register(client, selectors.EVENT_WRITE, bytearray())

    def go_on(key: selectors.SelectorKey, events: int) -> bool:
        """Whether the connection is still of use."""
        try:
            if events & selectors.EVENT_WRITE:
                key.fileobj.sendall(request)
                selector.modify(key.fileobj, selectors.EVENT_READ, key.data)
                return True
            piece = key.fileobj.recv(1 << 16)
        except OSError:
            piece = b""
        key.data.extend(piece)
        return bool(piece)

    for _ in range(int(number)):
        begin()
    while not stop.is_set():
        for key, events in selector.select(0.1):
            if not go_on(key, events):
                selector.unregister(key.fileobj)
                key.fileobj.close()
                if not answered:
                    print("answered", flush=True)
                answered[key.data[9:12].decode() or "broken"] += 1
                begin()
    print(json.dumps(answered))


if __name__ == "__main__":
    main(*sys.argv[1:])
