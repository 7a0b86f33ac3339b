"""The hosts' image is known by its recipe, and a damaged file in the cache is not used."""

import hashlib
from pathlib import Path

import pytest

from lab import image


def test_another_recipe_is_another_image(monkeypatch: pytest.MonkeyPatch) -> None:
    before = image.name()
    monkeypatch.setattr(image, "FETCHED", (*image.FETCHED, "redis"))
    assert image.name() != before


def test_included_and_fetched_packages_are_not_the_same_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    before = image.recipe()
    monkeypatch.setattr(image, "INCLUDED", (*image.INCLUDED, image.FETCHED[0]))
    monkeypatch.setattr(image, "FETCHED", image.FETCHED[1:])
    assert image.recipe() != before


def test_a_torn_file_in_the_cache_is_noticed(tmp_path: Path) -> None:
    archive = tmp_path / "host-1.tar"
    archive.write_bytes(b"whole")
    assert not image._is_whole(archive)

    image._checksum_file(archive).write_text(hashlib.sha256(b"whole").hexdigest() + "  host-1.tar\n")
    assert image._is_whole(archive)
    archive.write_bytes(b"who")
    assert not image._is_whole(archive)


def test_the_cache_is_outside_the_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert image.cache_folder() == tmp_path / "marchproxy"
