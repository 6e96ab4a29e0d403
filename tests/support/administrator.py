"""How the tests ask as a script with the token does, and as a signed-in administrator's browser."""

import re

from tests.conftest import PASSWORD, TOKEN

SCRIPT = {"Authorization": f"Bearer {TOKEN}"}
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def csrf_token(client, path="/admin"):
    return re.search(r'name="csrf_token" value="([^"]+)"', client.get(path).get_data(as_text=True))[1]


def sign_in(client, password=PASSWORD, username=None, **options):
    form = {"csrf_token": csrf_token(client, "/admin/sign-in"), "password": password}
    return client.post("/admin/sign-in", data=form | ({"username": username} if username else {}), **options)
