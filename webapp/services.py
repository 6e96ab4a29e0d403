"""The services of a web process: settings, database, active model, jobs and the rest."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from flask import Flask, current_app

from webapp.auth import Authenticator
from webapp.corrections.store import Corrections
from webapp.metrics.collectors import Asked, BuildCollector, DatabaseCollector, RedisCollector
from webapp.metrics.counters import Metrics
from webapp.settings import Settings
from webapp.storage.engine import Database
from webapp.storage.health import Health, Question, look
from webapp.training.jobs import Jobs
from webapp.training.task_queue import redis_of
from webapp.versions.active import ActiveModel
from webapp.versions.test_predictions import PredictionStore


@dataclass(frozen=True)
class Services:
    settings: Settings
    database: Database
    active_model: ActiveModel
    jobs: Jobs
    authenticator: Authenticator
    corrections: Corrections
    metrics: Metrics
    predictions: PredictionStore
    health: Question[Health]

    @classmethod
    def open(cls, settings: Settings) -> Services:
        database = Database(settings.database_url)
        jobs = Jobs(database, settings)
        collectors: list[Asked] = [DatabaseCollector(database), BuildCollector()]
        if redis := redis_of(jobs.huey):
            collectors.append(RedisCollector(redis.ping))
        metrics = Metrics(*collectors)
        return cls(
            settings=settings,
            database=database,
            active_model=ActiveModel(database, jobs.expire_leases, metrics),
            jobs=jobs,
            authenticator=Authenticator(database),
            corrections=Corrections(database, settings),
            metrics=metrics,
            predictions=PredictionStore(settings, database),
            health=Question(partial(look, database)),
        )

    def close(self) -> None:
        """Stop the thread that follows promotions, and close the queue and the database."""
        self.active_model.stop()
        self.jobs.huey.storage.close()
        self.database.close()


def services(app: Flask | None = None) -> Services:
    """Return the services of this app (default: the one that handles the request)."""
    return (app or current_app).extensions["inkling"]
