"""Sites made from short documents."""

import copy

import pytest

from tests.support.small_site import DOCUMENT
from xds_agent.model import load_site


@pytest.fixture
def document():
    return copy.deepcopy(DOCUMENT)


@pytest.fixture
def site_of():
    """site_of(change) is the site after `change(document)`; site_of() the one before."""

    def make(change=lambda document: None):
        document = copy.deepcopy(DOCUMENT)
        change(document)
        return load_site(document)

    return make
