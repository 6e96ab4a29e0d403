"""Runs the supervisor of web and worker as a child, passes its output on, and ends it in order.

`python -m webapp run` may end by a signal, with its terminal or with the reader of its output. supervisord alone would
reload on a hang-up and fail on a broken output, and leave web and worker behind.

After set-up, `python -m webapp run` becomes this program, which imports little and so takes little memory.
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

# Sends SIGTERM to a program when its parent dies, by whichever signal.
SETPRIV = "setpriv"
END_SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT
# supervisord waits 20 s for the worker and then 20 s for the web before it kills them.
STOP_SECONDS = 50.0
BROKEN = select.POLLERR | select.POLLHUP | select.POLLNVAL
DISK_FULL = errno.ENOSPC, errno.EDQUOT, errno.EFBIG


def become(listener: int) -> None:
    """Turns this process into the one that runs web, which serves on the socket `listener`, and worker."""
    os.set_inheritable(listener, True)
    signal.pthread_sigmask(signal.SIG_BLOCK, END_SIGNALS)  # until they are handled
    # -P: the folder of this file is not to be searched for modules.
    os.execv(sys.executable, [sys.executable, "-P", __file__, str(listener)])


class Supervision:
    def __init__(self):
        self._process: subprocess.Popen | None = None
        self._output = 1
        self._stopping = False
        self._kill_at: float | None = None  # set when the end begins

    def run(self, listener: int) -> int:
        """Returns when supervisord, web and worker have ended, with the exit code."""
        for number in END_SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # as nohup sets it
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
        """Starts supervisord; returns it and the pipe with its output."""
        source, sink = os.pipe()
        # Naming the user says that running as root, where one is root, is meant.
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
            start_new_session=True,  # a terminal's signals reach this process alone, which sends one SIGTERM
        )
        os.close(sink)
        os.close(listener)
        if self._stopping:  # since before there was a process to stop
            self._stop()
        return process, source

    def _stop(self, *_) -> None:
        self._stopping = True
        if self._process:
            self._process.terminate()
            self._begin_end()

    def _begin_end(self) -> None:
        self._kill_at = self._kill_at or time.monotonic() + STOP_SECONDS

    def _overdue(self, process: subprocess.Popen) -> bool:
        if process.poll() is not None:
            self._begin_end()  # of web and worker
        if self._kill_at is None or time.monotonic() < self._kill_at:
            return False
        process.kill()
        return True

    def _follow(self, process: subprocess.Popen, source: int) -> None:
        """Copies the output until all processes have ended; supervisord is killed where that takes too long."""
        held = b""
        while not self._overdue(process):
            # While the output takes nothing, nothing is read; that it is broken is noticed also without any data.
            poll = select.poll()  # an error is always among the events
            poll.register(self._output, select.POLLOUT if held else 0)
            if not held:
                poll.register(source, select.POLLIN)
            ready = dict(poll.poll(1000))
            if ready.get(self._output, 0) & BROKEN or (self._stopping and held and not ready):
                self._give_up_output()  # broken, or stopped (Ctrl-S), which must not hold up the end
            elif held and self._output in ready:
                held = held[self._write(held) :]
            elif source in ready:
                held = os.read(source, select.PIPE_BUF)  # as much as a writable pipe takes at once
                if not held:
                    return

    def _write(self, data: bytes) -> int:
        try:
            return os.write(self._output, data)
        except OSError as error:
            if error.errno not in DISK_FULL:  # otherwise these lines are lost, and the server goes on
                self._give_up_output()
            return len(data)

    def _give_up_output(self) -> None:
        self._output = os.open(os.devnull, os.O_WRONLY)
        self._stop()


if __name__ == "__main__":
    sys.exit(Supervision().run(int(sys.argv[1])))
