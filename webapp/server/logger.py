"""gunicorn's logger in the application's log format."""

from __future__ import annotations

from gunicorn.glogging import Logger

from webapp.logs import formatter


class GunicornLogger(Logger):
    def setup(self, cfg):
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(formatter())
