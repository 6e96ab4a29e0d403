"""gunicorn's configuration: sync workers, since one prediction keeps a core busy."""

import functools
import os
import sys

os.umask(0o077)  # as `python -m webapp` does

# Before numpy is imported, which reads it then. The matrix products of one digit gain nothing from threads, which would
# compete with the other workers.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# At a reload (HUP) gunicorn runs this file again, in a process with the modules of the release that it started with.
for _name in [name for name in sys.modules if name.partition(".")[0] in ("webapp", "model", "wsgi")]:
    del sys.modules[_name]

from sqlalchemy.exc import SQLAlchemyError  # noqa: E402

import webapp.app  # noqa: E402, F401  imported before the workers fork
from model.data import mnist  # noqa: E402
from webapp.metrics import counters  # noqa: E402
from webapp.server import listeners  # noqa: E402
from webapp.services import services  # noqa: E402
from webapp.settings import Settings, SettingsError  # noqa: E402
from webapp.storage.installation_lock import share  # noqa: E402
from webapp.storage.secret_key import wait_for_secret_key  # noqa: E402

try:
    _settings = Settings.read()
except SettingsError as error:
    sys.exit(f"inkling: {error}")

wsgi_app = "wsgi:app"
bind = _settings.bind
workers = _settings.web_concurrency
worker_class = "webapp.server.worker.Worker"
# Each worker creates its own application, since threads do not survive a fork. The modules are imported above and so
# shared: a worker starts at once and takes little memory.
preload_app = False
timeout = 15
graceful_timeout = 15
accesslog = None  # the application logs each request
loglevel = "warning"
logger_class = "webapp.server.logger.GunicornLogger"
# Let no request header set SCRIPT_NAME or PATH_INFO.
forwarder_headers = ""
# The default socket is one per user, which a second installation would take over.
control_socket_disable = True


def on_starting(server):
    if server.cfg.is_ssl:
        raise RuntimeError("TLS is left to a proxy in front")
    try:
        if isinstance(server.cfg.address[0], int):
            server.systemd = True  # the socket is inherited: gunicorn would remove a Unix socket's file at its end
        else:
            listeners.check(_settings)
        settings = share(_settings, server.log.warning)  # for its workers too, which inherit the lock
        # Once for all workers: one may be forked while the database is down, and gunicorn ends if a worker cannot boot.
        os.environ["SECRET_KEY"] = wait_for_secret_key(settings, server.log.warning).secret_key
    except (listeners.AddressError, SettingsError, OSError) as error:  # such as a full disk while a restore is finished
        sys.exit(f"inkling: {error}")
    except SQLAlchemyError as error:  # such as a role without rights; a database that is away is waited for
        sys.exit(f"inkling: the database cannot be used: {str(error).splitlines()[0]}")
    if _settings.socket_path and not _settings.trusted_proxies:
        server.log.warning("all clients count as one behind a Unix socket until TRUSTED_PROXIES=1 names the proxy")
    if mnist.missing(_settings.mnist_dir):
        server.log.warning("MNIST is not in %s: the gallery waits for it; `make data` fetches it", _settings.mnist_dir)
    # USR2 would start a second master, outside the supervisor's control.
    ignored = "USR2 is ignored: the supervisor runs one master, and HUP reloads it"
    server.handle_usr2 = functools.partial(server.log.warning, ignored)


def child_exit(server, worker):
    counters.mark_dead(worker.pid)


def on_exit(server):
    counters.remove_counters()


def when_ready(server):  # the address is bound, and no worker has been forked yet
    counters.share_counters(_settings.bind.replace("/", "-"))
    if _settings.socket_path:
        listeners.open_to_all(_settings.socket_path)
    listeners.configure(server.LISTENERS)


def post_worker_init(worker):
    services(worker.wsgi).active_model.follow()
