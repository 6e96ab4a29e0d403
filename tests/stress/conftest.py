"""An application for programs that ask whatever its description allows."""

import pytest
from sqlalchemy import update

from model.presets import Config
from tests.support.corrections import add_correction, digits
from webapp import auth
from webapp.corrections import store
from webapp.services import services
from webapp.storage.schema import Correction


@pytest.fixture
def busy_app(app, settings, database, monkeypatch):
    """An application with some corrections, without limits to how often it is asked, and with a run that waits."""
    services(app).corrections.limits = store.Limits(10**9, 10**9, 10**9)
    for name in ("ATTEMPTS_PER_ADDRESS", "ATTEMPTS_IN_ALL"):  # it tries wrong tokens, and expects 401 each time
        monkeypatch.setattr(auth, name, 10**9)
    numbers = [add_correction(settings, database, image, label) for image, label in digits(10)]
    with database.writing() as session:  # those after the numbers that it decides about are there to be learnt from
        session.execute(update(Correction).where(Correction.id.in_(numbers[5:])).values(state="approved"))
    services(app).jobs.start(Config("basic", 1), "a test")
    services(app).active_model.classifier().warm()
    return app
