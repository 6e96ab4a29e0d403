"""How gunicorn serves the web: sync workers, since the network keeps a core busy anyway."""

import functools
import os
import sys

os.umask(0o077)  # as `python -m webapp` does

# Of any use only before numpy is imported. The products of one digit gain nothing from threads, which would only fight
# the other workers.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# At a reload (HUP) this file is run again, by a process that still has the modules of the release that it started with.
for _name in [name for name in sys.modules if name.partition(".")[0] in ("webapp", "model", "wsgi")]:
    del sys.modules[_name]

import webapp.app  # noqa: E402, F401  so that its modules are there before the workers are
from webapp import metrics  # noqa: E402
from webapp.server import listeners  # noqa: E402
from webapp.services import services  # noqa: E402
from webapp.settings import Settings, SettingsError  # noqa: E402
from webapp.storage.secret_key import wait_for_secret_key  # noqa: E402

try:
    _settings = Settings.read()
except SettingsError as error:
    sys.exit(f"inkling: {error}")

wsgi_app = "wsgi:app"
bind = f"{_settings.host}:{_settings.port}"
workers = _settings.web_concurrency
worker_class = "webapp.server.worker.Worker"
# Each worker makes an application of its own, since no thread survives a fork. The modules, all of which are imported
# above, are shared nevertheless: a worker is there at once and weighs little.
preload_app = False
timeout = 15
graceful_timeout = 15
accesslog = None  # the application has a line of its own for each request
loglevel = "warning"
logger_class = "webapp.server.logger.GunicornLogger"
# No header of a request, whoever sends it, is anything but a header.
forwarder_headers = ""
# Its default socket is one per user, and a second installation would take it over.
control_socket_disable = True


def on_starting(server):
    if server.cfg.is_ssl:
        raise RuntimeError("TLS is left to a proxy in front")
    # For all workers, which may be born while the database is away; and gunicorn ends when one of them cannot boot.
    os.environ["SECRET_KEY"] = wait_for_secret_key(_settings, server.log.warning).secret_key
    # USR2 starts a second master, which no supervisor would end or restart once the first one has ended.
    ignored = "USR2 is ignored: the supervisor runs one master, and HUP reloads it"
    server.handle_usr2 = functools.partial(server.log.warning, ignored)


def child_exit(server, worker):
    metrics.mark_dead(worker.pid)


def on_exit(server):
    metrics.remove_counters()


def when_ready(server):  # the address is this server's now, and no worker is there yet
    metrics.share_counters(f"{_settings.host}-{_settings.port}")
    listeners.configure(server.LISTENERS)


def post_worker_init(worker):
    services(worker.wsgi).active_model.follow()
