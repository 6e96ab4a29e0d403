"""The configuration of gunicorn, with no limits on corrections: one sender and one hour stand for many."""

import runpy

from webapp.settings import ROOT

globals().update(runpy.run_path(str(ROOT / "gunicorn.conf.py")))

from webapp.corrections import store  # noqa: E402  that configuration has imported it anew

for _name in ("PER_SUBMITTER", "IN_ALL", "MOST_WAITING"):
    setattr(store, _name, 10**9)
