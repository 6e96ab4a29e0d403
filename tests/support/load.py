"""Asks a server at a steady rate, whether it keeps up or not: python -m tests.support.load PORT RATE SECONDS < BODY.

Every connection carries one POST /predict, as if from somebody else. Prints what came of them as JSON: for each
status the seconds that its answers took, how many connections broke, and one refusal in full. The process of its own
keeps the measuring of others out of this one's way.
"""

import errno
import json
import resource
import selectors
import socket
import sys
import time
from collections import defaultdict

GIVE_UP_SECONDS = 20.0
BROKEN = "broken"


class Flood:
    def __init__(self, port: int, body: bytes):
        self._address = ("127.0.0.1", port)
        head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
        self._request = f"{head}Content-Type: application/json\r\n\r\n".encode() + body
        self._selector = selectors.DefaultSelector()
        self.seconds = defaultdict(list)
        self.refusal = ""

    def run(self, rate: float, seconds: float) -> None:
        began, sent = time.monotonic(), 0
        while (now := time.monotonic()) < began + seconds:
            while sent < (now - began) * rate:
                self._begin()
                sent += 1
            self._look(0.001)
        end = time.monotonic() + GIVE_UP_SECONDS
        while self._selector.get_map() and time.monotonic() < end:
            self._look(0.1)
        if left := len(self._selector.get_map()):
            self.seconds[BROKEN] += [GIVE_UP_SECONDS] * left

    def _begin(self) -> None:
        client = socket.socket()
        client.setblocking(False)
        if client.connect_ex(self._address) not in (0, errno.EINPROGRESS):
            self.seconds[BROKEN].append(0.0)
            client.close()
            return
        self._selector.register(client, selectors.EVENT_WRITE, [time.monotonic(), b""])

    def _look(self, seconds: float) -> None:
        for key, events in self._selector.select(seconds):
            try:
                if events & selectors.EVENT_WRITE:
                    key.fileobj.sendall(self._request)
                    self._selector.modify(key.fileobj, selectors.EVENT_READ, key.data)
                elif piece := key.fileobj.recv(1 << 16):
                    key.data[1] += piece
                else:
                    self._end(key)
            except OSError:
                self._end(key)

    def _end(self, key: selectors.SelectorKey) -> None:
        self._selector.unregister(key.fileobj)
        key.fileobj.close()
        began, answer = key.data
        status = answer[9:12].decode() or BROKEN
        self.seconds[status].append(time.monotonic() - began)
        if status == "503" and not self.refusal:
            self.refusal = answer.decode()


def main(port: str, rate: str, seconds: str) -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    flood = Flood(int(port), sys.stdin.buffer.read())
    flood.run(float(rate), float(seconds))
    json.dump({"seconds": flood.seconds, "refusal": flood.refusal}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
