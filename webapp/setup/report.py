"""What is told about the settings: the page of docs/, those in force with their origin, and misspelt variables."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping

from sqlalchemy.exc import SQLAlchemyError

from webapp.settings import Default, Setting, Settings
from webapp.storage.secret_key import NotSetUp, with_secret_key

DOCUMENT = """# Settings

Environment variables, all optional; an empty one is unset. `python -m webapp settings` prints those in force and where
each comes from, without secrets; `python -m webapp settings --document` writes this page. With systemd they are in
`/etc/inkling/inkling.env` ([deploy](../deploy/README.md)), and the command is `inkling settings`
([operating](operating.md)).
{sections}
Everything made at run time is in `DATA_DIR`, which other users of the machine cannot read; deleting that folder resets
the product. Two installations run side by side with different `DATA_DIR` and `PORT`. A proxy in front (nginx, say) also
keeps slow clients from holding the workers.
"""
SECTION = """
## {title}

| variable | default | meaning |
|---|---|---|
"""
# A variable at least this similar to a setting's is told as a misspelling: DATABASE_URI, ADMIN_PASWORD. Shorter names
# are similar to too many of other programs'.
SIMILAR = 0.85
SHORTEST_NAME = 7


def document() -> str:
    """Return the page of docs/ that describes every setting."""
    page = ""
    for name, setting in Settings.all().items():
        if setting.section:
            page += SECTION.format(title=setting.section)
        page += f"| `{name.upper()}` | {_default(setting)} | {setting.meaning} |\n"
    return DOCUMENT.format(sections=page)


def in_force(settings: Settings, environ: Mapping[str, str] = os.environ) -> Iterator[tuple[str, str, str]]:
    """Yield each setting's variable, its value without secrets, and its origin."""
    for name, setting in Settings.all().items():
        variable, value, origin = name.upper(), getattr(settings, name), "default"
        if environ.get(variable):
            origin = "environment"
        elif name == "secret_key":
            value, origin = _stored_key(settings)
        yield variable, setting.show(value) or "(none)", origin


def misspelt(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return a line for each variable that is no setting but nearly has the name of one.

    The settings have no prefix in common, so that other misspellings cannot be told from other programs' variables.
    """
    ours = [variable for variable in Settings.variables() if len(variable) >= SHORTEST_NAME]
    lines = []
    for variable in sorted(set(environ) - set(Settings.variables())):
        if meant := difflib.get_close_matches(variable, ours, 1, SIMILAR):
            lines.append(f"{variable} is no setting and has no effect; is {meant[0]} meant?")
    return lines


def _default(setting: Setting) -> str:
    if isinstance(setting.default, Default):
        return setting.default.words
    return f"`{setting.default}`" if setting.default else "none"


def _stored_key(settings: Settings) -> tuple[str, str]:
    """Return the secret key that is not in the environment, and where it is stored; "" where it cannot be read."""
    if settings.secret_key:
        return settings.secret_key, f"file {settings.data_dir / 'secret_key'}"
    try:
        return with_secret_key(settings).secret_key, "PostgreSQL"
    except NotSetUp:
        return "", "none yet: set-up creates it"
    except SQLAlchemyError:
        return "", "PostgreSQL, which does not answer"
