"""What a process needs besides the request: settings, database, the live version and the queue."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Flask, current_app

from webapp.auth import Door
from webapp.corrections.store import Corrections
from webapp.metrics import Metrics
from webapp.settings import Settings
from webapp.storage.engine import Database
from webapp.training.jobs import Jobs
from webapp.versions.active import Live
from webapp.versions.test_predictions import Library


@dataclass(frozen=True)
class Services:
    settings: Settings
    database: Database
    live: Live
    jobs: Jobs
    door: Door
    corrections: Corrections
    metrics: Metrics
    library: Library

    @classmethod
    def open(cls, settings: Settings) -> Services:
        database = Database(settings.database_url)
        jobs = Jobs(database, settings)
        metrics = Metrics()
        live = Live(database, jobs.expire_leases, metrics)
        library = Library(settings, database)
        return cls(settings, database, live, jobs, Door(database), Corrections(database, settings), metrics, library)

    def close(self) -> None:
        """Ends the thread that follows promotions and closes what is open."""
        self.live.stop()
        self.jobs.huey.storage.close()
        self.database.close()


def services(app: Flask | None = None) -> Services:
    """The services of this app (default: the one that handles the request)."""
    return (app or current_app).extensions["inkling"]
