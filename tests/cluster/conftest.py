"""One cluster for the tests of a file; each test finds it whole and leaves it so."""

import pytest

from tests.cluster import cluster as clusters


@pytest.fixture(scope="module")
def shared_cluster(tmp_path_factory):
    with clusters.running(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared_cluster):
    shared_cluster.settle()
    return shared_cluster
