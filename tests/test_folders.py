"""What workers may read, and how a scratch is emptied."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from autograder import folders
from autograder.errors import SandboxUnavailable

REPOSITORY = Path(folders.__file__).resolve().parent.parent


@pytest.mark.parametrize("name", sorted(folders.SECRET_NAMES))
def test_secret_folders_are_refused(tmp_path: Path, name: str) -> None:
    """No readable folder may hold a secret one, however deep."""
    (tmp_path / "deep" / "deeper" / name).mkdir(parents=True)
    with pytest.raises(SandboxUnavailable, match=name):
        folders.to_read([tmp_path])


def test_folders_around_or_in_secrets_are_refused(tmp_path: Path) -> None:
    """Home, the repository, and what lies in solutions/, by link too."""
    inside = tmp_path / "solutions" / "attention"
    inside.mkdir(parents=True)
    link = tmp_path / "innocent"
    link.symlink_to(inside)
    for path in (Path.home(), Path.home().parent, REPOSITORY, inside, link, Path("/")):
        with pytest.raises(SandboxUnavailable, match="readable for student code"):
            folders.to_read([path])


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """A slip in a course's settings is said at once, not by every worker."""
    with pytest.raises(SandboxUnavailable, match="not there"):
        folders.to_read([tmp_path / "missing"])


def test_each_once(tmp_path: Path) -> None:
    """A folder shows what lies in it, but not where a link in it leads."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "c").mkdir()
    (tmp_path / "a" / "link").symlink_to(tmp_path / "c")
    paths = [tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "link", tmp_path / "missing"]
    assert folders.each_once(paths) == [tmp_path / "a", tmp_path / "c", tmp_path / "a" / "link"]


def test_wipe_follows_no_link(tmp_path: Path) -> None:
    """Wiping empties a folder and nothing else, however deep or locked."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    folder = tmp_path / "scratch"
    folder.mkdir()
    (folder / "link").symlink_to(outside)
    before = Path.cwd()
    os.chdir(folder)
    try:
        for _ in range(1000):
            os.mkdir("deep")
            os.chdir("deep")
        Path("file").touch()
        os.chmod("../../deep", 0o500)
        os.chmod(".", 0)
    finally:
        os.chdir(before)
    folders.wipe(folder)
    assert list(folder.iterdir()) == []
    assert (outside / "kept").exists()
