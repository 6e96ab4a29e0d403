"""Log lines of all our processes, in one form."""

import logging
import time


def set_up_logging() -> None:
    """One line an event on the error output, UTC; Flask's, gunicorn's and Huey's chatter only from warnings up."""
    formatter = logging.Formatter("%(asctime)sZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("webapp").setLevel(logging.INFO)
