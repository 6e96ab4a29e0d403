"""An upgrade replica by replica: whoever has a page, of either release, gets every file that it names."""

import http.client
import random
import re
import shutil
from collections import Counter
from posixpath import join, normpath

import pytest

from model.data import mnist
from tests.support.cluster import HOST, BehindNginx, Clients, Replica, behind_nginx
from tests.support.servers import START_SECONDS, wait_until

CHANGED = "css/base.css"
MARK = "/* the next release */"
PAGES = "/", "/how-it-works", "/gallery", "/receipts"
IN_PAGE = re.compile(r'(?:href|src)="(/static/[^"]+)"')
# What modules name: other modules, also those that are loaded late, and late style sheets.
MODULE = re.compile(r'(?:from|import\() ?"(\.[^"]+)"')
STYLE_SHEET = re.compile(r'addStyleSheet\("(\w+)"\)')


class PageLoads(Clients):
    """Browsers without a cache that load pages with all their files through nginx; keeps what they did not get."""

    def __init__(self, front: BehindNginx, clients: int):
        super().__init__(self._browse, (f"127.0.3.{n + 1}" for n in range(clients)))
        self._front = front
        self.releases: Counter[str] = Counter()  # of the pages loaded
        self.missing: list[tuple[str, int]] = []

    def wait_for(self, count: int, release: str) -> None:
        """The next `count` loads of a page of this release."""
        first = self.releases[release]
        wait_until(lambda: self.missing or self.releases[release] >= first + count)

    def _browse(self, address: str) -> None:
        chance = random.Random(address)
        while not self._stop.is_set():
            if chance.random() < 0.5:  # or a browser's pages might all come from one replica, as nginx takes turns
                self._front.ask("GET", "/healthz", address=address)
            self.load(chance.choice(PAGES), address)

    def load(self, page: str, address: str = "127.0.3.100") -> dict[str, str]:
        """Fetches a page and everything that it names; returns the texts by address."""
        connection, texts = self._front.connect(address), {}
        to_fetch = [page]
        while to_fetch:
            path = to_fetch.pop()
            status, texts[path] = self._fetch(connection, path)
            if status != 200:
                self.missing.append((path, status))
            to_fetch += named(path, texts[path]) - texts.keys() - set(to_fetch)
        connection.close()
        self.releases[release_in(texts[page])] += 1
        return texts

    def _fetch(self, connection: http.client.HTTPSConnection, path: str) -> tuple[int, str]:
        try:
            connection.request("GET", path, headers={"Host": HOST, "Accept": "text/html"})
            response = connection.getresponse()
            return response.status, response.read().decode(errors="replace")
        except (OSError, http.client.HTTPException):
            connection.close()
            return 0, ""


def release_in(page: str) -> str:
    """The release whose files a page names."""
    found = IN_PAGE.search(page)
    return found[1].split("/")[2] if found else ""


def named(path: str, text: str) -> set[str]:
    """The addresses of files that a page, a module or the manifest names."""
    if not path.startswith("/static/"):
        return set(IN_PAGE.findall(text))
    folder = path.rpartition("/")[0]
    if path.endswith(".webmanifest"):
        return {join(folder, name) for name in re.findall(r'"src": "([^"]+)"', text)}
    if not path.endswith(".js"):
        return set()
    modules = {normpath(join(folder, name)) for name in MODULE.findall(text)}
    return modules | {normpath(f"{folder}/../../css/draw/{name}.css") for name in STYLE_SHEET.findall(text)}


def release_next(replica: Replica) -> None:
    """Puts the next release, with another style sheet, in the place of the one that a replica is serving."""
    style_sheet = replica.program / "static" / CHANGED
    style_sheet.write_text(style_sheet.read_text() + MARK)


def set_up(replica: Replica) -> None:
    assert replica.spawn("webapp", "setup").wait(START_SECONDS) == 0, replica.log.read_text()[-2000:]


def restart(replica: Replica) -> None:
    assert replica.stop() == 0
    replica.start()
    wait_until(replica.is_ready)


def upgrade_under_page_loads(front: BehindNginx, replicas: list[Replica], clients: int, loads: int) -> None:
    """As deploy/README.md says: set-up, then the web servers one after the other."""
    with PageLoads(front, clients) as browsers:
        opened = browsers.load("/")
        before = release_in(opened["/"])
        for replica in replicas:
            release_next(replica)
            set_up(replica)
            browsers.wait_for(loads, before)
            restart(replica)
            after = release_in(replica.ask("GET", "/").body.decode())
            browsers.wait_for(loads, after)
    print(f"{browsers.releases.total()} page loads, {len(browsers.missing)} files missing")
    assert not browsers.missing
    assert browsers.releases.keys() == {before, after} and before != after
    # Who opened a page before the upgrade gets its files still, from a replica of the next release too.
    for path in opened.keys() - {"/"}:
        for ask in (front.ask, *(replica.ask for replica in replicas)):
            answer = ask("GET", path)
            assert (answer.status, answer.body.decode(errors="replace")) == (200, opened[path]), path
    style_sheet = f"/static/{after}/{CHANGED}"
    for ask in front.ask, replicas[0].ask:
        assert ask("GET", style_sheet).body.decode() == opened[f"/static/{before}/{CHANGED}"] + MARK
    assert front.ask("GET", f"/static/{after}/css/nothing.css").status == 404


@pytest.mark.parametrize("shares", [False, pytest.param(True, marks=pytest.mark.cluster)], ids=["apart", "shared"])
def test_one_of_two_replicas_upgraded_serves_whole_pages(tmp_path, prepared, shares):
    """The short form, on SQLite: with a DATA_DIR each or, as on one machine, one for both."""
    environ = {"HTTPS": "1", "DATABASE_URL": "", "REDIS_URL": "", "MNIST_DIR": str(mnist.default_folder())}
    replicas = [Replica(tmp_path / f"replica{number}", **environ) for number in range(2)]
    if shares:
        replicas[1].environ["DATA_DIR"] = replicas[0].environ["DATA_DIR"]
    for replica in replicas[: 1 if shares else 2]:
        shutil.copytree(prepared, replica.data_dir, dirs_exist_ok=True)
    try:
        for replica in replicas:
            replica.start()
        for replica in replicas:
            wait_until(replica.is_ready)
        with behind_nginx(tmp_path, replicas) as front:
            upgrade_under_page_loads(front, replicas[:1], clients=1, loads=3)
            replicas[1].kill()
            assert {front.ask("GET", "/static/nothing.css").status for _ in range(20)} == {404}
    finally:
        for replica in replicas:
            if replica.running:
                replica.kill()


@pytest.mark.cluster
@pytest.mark.timeout(600)
def test_cluster_upgraded_in_turn_serves_whole_pages(cluster):
    for replica in cluster.replicas:  # the fixture does so on one machine alone
        set_up(replica)
    upgrade_under_page_loads(cluster, cluster.replicas, clients=4, loads=20)
