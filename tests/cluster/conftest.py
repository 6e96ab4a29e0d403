"""One cluster for the tests of a file; each test finds it whole and leaves it so."""

import pytest

from tests.support import cluster as clusters


@pytest.fixture(scope="module")
def shared_cluster(tmp_path_factory):
    with clusters.running(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared_cluster):
    shared_cluster.settle()
    return shared_cluster


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """A failure shows what replicas and workers have logged."""
    report = yield
    if report.failed and "cluster" in getattr(item, "funcargs", {}):
        report.sections.append(("logs of the cluster", item.funcargs["cluster"].logs()[-20_000:]))
    return report
