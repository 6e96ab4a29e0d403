"""The configuration of gunicorn, with no limits on corrections: one sender and one hour stand for many."""

import runpy

from webapp.settings import ROOT

globals().update(runpy.run_path(str(ROOT / "gunicorn.conf.py")))

from webapp.corrections import store  # noqa: E402  that configuration has imported it anew

for _name in ("MAX_PER_SUBMITTER", "MAX_IN_ALL", "MAX_WAITING"):
    setattr(store, _name, 10**9)
