"""What is running: the release is that of CHANGELOG.md, the commit that of the checkout."""

import re

import pytest

from webapp import release
from webapp.settings import ROOT

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "f" * 40


def test_release_is_the_first_of_the_changes():
    first, *others = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    if first == "Unreleased":
        number, _, rest = release.RELEASE.partition(".dev")
        assert rest.isdigit() and [*map(int, number.split("."))] > [*map(int, others[0].split("."))]
    else:
        assert first == release.RELEASE


def test_schema_is_the_newest_revision(database):
    with database.engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    assert found == release.SCHEMA


@pytest.mark.parametrize(
    ("files", "commit"),
    [
        ({"HEAD": "ref: refs/heads/main\n", "refs/heads/main": f"{COMMIT}\n", "packed-refs": f"{OTHER} x\n"}, COMMIT),
        ({"HEAD": f"{COMMIT}\n"}, COMMIT),
        (
            {
                "HEAD": "ref: refs/heads/main\n",
                "packed-refs": f"# {OTHER}\n{OTHER} refs/heads/mainline\n{COMMIT} refs/heads/main\n^{OTHER}\n",
            },
            COMMIT,
        ),
        ({"HEAD": "ref: refs/heads/main\n"}, ""),
        ({"HEAD": "ref: refs/heads/main\n", "packed-refs": ""}, ""),
        ({"HEAD": "something else\n"}, ""),
        ({"HEAD": "\xe9\n"}, ""),
        ({}, ""),
    ],
    ids=["branch", "detached", "packed", "no commit yet", "no such branch", "no commit", "no ASCII", "no Git"],
)
def test_commit_is_that_of_the_checkout_if_known(tmp_path, files, commit):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    assert release._commit(tmp_path) == commit


def test_commit_of_a_copy_without_git_is_not_known(tmp_path):
    (tmp_path / ".git").write_text("gitdir: elsewhere\n")
    assert release._commit(tmp_path / ".git") == ""
