"""The documents lead to each other."""

import re

import pytest

from webapp.settings import ROOT

PAGES = sorted(
    path.relative_to(ROOT) for pattern in ("*.md", "docs/*.md", "deploy/*.md") for path in ROOT.glob(pattern)
)
OPERATORS = [
    "deploy/README.md",
    "docs/backup.md",
    "docs/removal.md",
    "docs/scaling.md",
    "docs/settings.md",
    "docs/upgrading.md",
    "docs/watching.md",
    "README.md",
]
BLOCK = re.compile(r"^```.*?^```", re.M | re.S)


def text(page):
    return BLOCK.sub("", (ROOT / page).read_text())


def anchors(page):
    """The names that headings have on GitHub."""
    return {re.sub(r"[^\w -]", "", it.lower()).replace(" ", "-") for it in re.findall("^#+ (.+)$", text(page), re.M)}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_of_the_documents_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text(page)):
        file, _, anchor = target.partition("#")
        found = ROOT / page.parent / file if file else ROOT / page
        assert found.exists(), target
        assert not anchor or anchor in anchors(found.resolve().relative_to(ROOT)), target


@pytest.mark.parametrize("page", OPERATORS)
def test_operators_day_is_named_by_what_it_leads_to(page):
    assert "operating.md" in text(page)
