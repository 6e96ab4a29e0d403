"""The parent of supervisord, which runs web and worker: passes its output on, and ends all of them.

`python -m webapp run` may end by a signal, with its terminal or with the reader of its output. Without this parent,
supervisord would reload on SIGHUP and fail on a broken output, and leave web and worker running.

After set-up, `python -m webapp run` executes this file, which imports little and so takes little memory.
"""

from __future__ import annotations

import errno
import os
import pwd
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

SETPRIV = "setpriv"  # sends SIGTERM to a program when its parent dies
END_SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT
STOP_SECONDS = 50.0  # supervisord waits 20 s for the worker and then 20 s for the web before it kills them
BROKEN = select.POLLERR | select.POLLHUP | select.POLLNVAL
DISK_FULL = errno.ENOSPC, errno.EDQUOT, errno.EFBIG


def exec_supervisor(listener: int) -> None:
    """Replace this process by one that runs web, serving on the socket `listener`, and worker."""
    os.set_inheritable(listener, True)
    signal.pthread_sigmask(signal.SIG_BLOCK, END_SIGNALS)  # until they are handled
    # -P: do not search the folder of this file for modules.
    os.execv(sys.executable, [sys.executable, "-P", __file__, str(listener)])


class Supervision:
    """A running supervisord with its output and its end."""

    def __init__(self):
        self._process: subprocess.Popen | None = None
        self._output = 1
        self._stopping = False
        self._kill_at: float | None = None  # set when the shutdown begins

    def run(self, listener: int) -> int:
        """Run until supervisord, web and worker have ended; return the exit code."""
        for number in END_SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores SIGHUP
                signal.signal(number, self._stop)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, END_SIGNALS)
        process, source = self._start(listener)
        self._follow(process, source)
        code = process.wait()
        if self._stopping or code == 0:
            return 0
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        print(f"inkling: the supervisor {how}; web and worker have ended with it", file=sys.stderr)
        return 2

    def _start(self, listener: int) -> tuple[subprocess.Popen, int]:
        """Start supervisord; return it and the pipe with its output."""
        source, sink = os.pipe()
        # supervisord warns root unless the user is named.
        user = pwd.getpwuid(os.getuid()).pw_name
        root = Path(__file__).resolve().parents[2]
        supervisor = Path(sys.executable).with_name("supervisord"), "--configuration", root / "supervisord.conf"
        self._process = process = subprocess.Popen(
            [SETPRIV, "--pdeathsig", "TERM", "--", *supervisor, "--user", user],
            cwd=root,
            env=os.environ | {"INKLING_SOCKET": str(listener)},
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            # Web and worker inherit both: the pipe closes when supervisord, web and worker have all ended.
            pass_fds=(sink, listener),
            start_new_session=True,  # a terminal's signals reach only this process, which sends one SIGTERM
        )
        os.close(sink)
        os.close(listener)
        if self._stopping:  # a signal came before there was a process to stop
            self._stop()
        return process, source

    def _stop(self, *_) -> None:
        self._stopping = True
        if self._process:
            self._process.terminate()
            self._begin_shutdown()

    def _begin_shutdown(self) -> None:
        self._kill_at = self._kill_at or time.monotonic() + STOP_SECONDS

    def _is_overdue(self, process: subprocess.Popen) -> bool:
        """Kill supervisord if the shutdown takes too long; return whether it did."""
        if process.poll() is not None:
            self._begin_shutdown()  # of web and worker
        if self._kill_at is None or time.monotonic() < self._kill_at:
            return False
        process.kill()
        return True

    def _follow(self, process: subprocess.Popen, source: int) -> None:
        """Copy the output until all processes have ended; kill supervisord if that takes too long."""
        buffer = b""
        while not self._is_overdue(process):
            # Read only while the buffer is empty, but always watch the output: poll reports errors without data too.
            poll = select.poll()
            poll.register(self._output, select.POLLOUT if buffer else 0)
            if not buffer:
                poll.register(source, select.POLLIN)
            ready = dict(poll.poll(1000))
            if ready.get(self._output, 0) & BROKEN or (self._stopping and buffer and not ready):
                self._discard_output()  # broken, or paused (Ctrl-S), which must not delay the shutdown
            elif buffer and self._output in ready:
                buffer = buffer[self._write(buffer) :]
            elif source in ready:
                buffer = os.read(source, select.PIPE_BUF)  # as much as a writable pipe takes at once
                if not buffer:
                    return

    def _write(self, data: bytes) -> int:
        try:
            return os.write(self._output, data)
        except OSError as error:
            if error.errno not in DISK_FULL:  # on a full disk only these lines are lost
                self._discard_output()
            return len(data)

    def _discard_output(self) -> None:
        """Discard further output and shut down."""
        self._output = os.open(os.devnull, os.O_WRONLY)
        self._stop()


if __name__ == "__main__":
    sys.exit(Supervision().run(int(sys.argv[1])))
