"""What a caller's string may name: paths and file URLs inside the roots; everything else is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from sa2va_tools.errors import AccessDeniedError, MediaNotFoundError, RequestError
from sa2va_tools.media.source import AccessPolicy

ANYTHING = AccessPolicy(roots=None)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """inside/clip.mp4, inside/sub dir/ä #1.png, outside/secret.png"""
    (tmp_path / "inside" / "sub dir").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "inside" / "clip.mp4").write_bytes(b"x")
    (tmp_path / "inside" / "sub dir" / "ä #1.png").write_bytes(b"x")
    (tmp_path / "outside" / "secret.png").write_bytes(b"x")
    return tmp_path.resolve()


def refusal(policy: AccessPolicy, source: str | Path) -> str:
    with pytest.raises(AccessDeniedError) as caught:
        policy.resolve(source)
    return str(caught.value)


def test_without_restrictions(folders, monkeypatch):
    clip = folders / "inside" / "clip.mp4"
    monkeypatch.chdir(folders)
    monkeypatch.setenv("HOME", str(folders))
    assert ANYTHING.resolve(clip) == clip
    assert ANYTHING.resolve(str(clip)) == clip
    assert ANYTHING.resolve("inside/../inside/clip.mp4") == clip
    assert ANYTHING.resolve("~/inside/clip.mp4") == clip


@pytest.mark.parametrize("start", ["file://", "file://localhost", "FILE://", "file:"])
def test_file_urls_are_percent_decoded(folders, start):
    target = folders / "inside" / "sub dir" / "ä #1.png"
    encoded = str(folders).replace(" ", "%20") + "/inside/sub%20dir/%C3%A4%20%231.png"
    assert ANYTHING.resolve(start + encoded) == target


@pytest.mark.parametrize(
    "url", ["http://a.b/c.mp4", "https://a.b/c.mp4", "ftp://a/b", "data:image/png;base64,AA", "s3://b/k"]
)
@pytest.mark.parametrize("roots", [None, (), (Path("/srv"),)])
def test_other_schemes_are_disabled(url, roots):
    assert "URLs are disabled" in refusal(AccessPolicy(roots), url)


def test_file_url_of_another_host_is_refused():
    assert "this machine" in refusal(ANYTHING, "file://server/share/a.png")


@pytest.mark.parametrize(
    "source",
    [
        "",
        "  ",
        "a\0b",
        "file:///a%00b",
        "x" * 300,
        "a/" * 3000,
        "\ud800.png",
        "file:relative.png",
        "file:///a.png?x=1",
    ],
)
@pytest.mark.parametrize("roots", [None, (Path("/srv"),)])
def test_invalid_paths(source, roots):
    with pytest.raises(RequestError):
        AccessPolicy(roots).resolve(source)


def test_names_with_a_colon_are_plain_paths(folders):
    (folders / "part:1.mp4").write_bytes(b"x")
    assert AccessPolicy((folders,)).resolve("part:1.mp4") == folders / "part:1.mp4"


def test_missing_file_suggests_similar_names(folders):
    with pytest.raises(MediaNotFoundError) as caught:
        AccessPolicy((folders / "inside",)).resolve("clpi.mp4")
    assert "clip.mp4" in caught.value.hint
    assert str(folders / "inside" / "clpi.mp4") in caught.value.message


def test_missing_file_without_restrictions(folders):
    with pytest.raises(MediaNotFoundError):
        ANYTHING.resolve(folders / "nowhere" / "x.png")


def test_impossible_paths_are_missing(folders):
    with pytest.raises(MediaNotFoundError):
        AccessPolicy((folders,)).resolve("a/" * 2040 + "a.png")
    with pytest.raises(MediaNotFoundError):
        ANYTHING.resolve("~nobody-of-that-name/a.png")


def test_missing_root_suggests_nothing(folders):
    with pytest.raises(MediaNotFoundError) as caught:
        AccessPolicy((folders / "outsid",)).resolve(folders / "outsid")
    assert "outside" not in caught.value.hint


def test_refusals_do_not_tell_whether_a_file_exists(folders):
    policy = AccessPolicy((folders / "inside",))
    there = refusal(policy, folders / "outside" / "secret.png")
    assert there == refusal(policy, folders / "outside" / "missing.png")
    assert there == refusal(policy, "/no/such/place")
    assert there == refusal(policy, "../outside/secret.png")
    assert there == refusal(policy, f"file://{folders}/outside/secret.png")
    assert there == refusal(policy, folders / "inside" / "none" / ".." / ".." / "outside" / "secret.png")
    assert str(folders / "inside") in there


def test_sibling_with_the_roots_prefix_is_outside(folders):
    (folders / "inside2").mkdir()
    refusal(AccessPolicy((folders / "inside",)), folders / "inside2")


def test_links_count_by_their_target(folders):
    root = folders / "inside"
    (root / "escape").symlink_to(folders / "outside")
    (root / "dangling").symlink_to(folders / "outside" / "missing.png")
    (root / "loop").symlink_to(root / "loop")
    (root / "alias.mp4").symlink_to(root / "clip.mp4")
    (folders / "door").symlink_to(root)
    policy = AccessPolicy((root,))
    assert policy.resolve("alias.mp4") == root / "clip.mp4"
    assert policy.resolve(folders / "door" / "clip.mp4") == root / "clip.mp4"
    assert refusal(policy, "escape/secret.png") == refusal(policy, "escape/missing.png")
    assert refusal(policy, "dangling") == refusal(policy, "escape")
    with pytest.raises(MediaNotFoundError):
        policy.resolve("loop")


def test_a_link_that_leads_nowhere_is_named(folders):
    (folders / "dangling.png").symlink_to(folders / "missing.png")
    with pytest.raises(
        MediaNotFoundError, match=r"dangling\.png is a link to .*missing\.png, where there is no"
    ):
        AccessPolicy(None).resolve(folders / "dangling.png")


def test_root_may_be_a_link(folders):
    (folders / "door").symlink_to(folders / "inside")
    assert AccessPolicy((folders / "door",)).resolve("clip.mp4") == folders / "inside" / "clip.mp4"


def test_relative_paths_are_looked_up_in_each_root_in_turn(folders, monkeypatch):
    monkeypatch.chdir(folders / "inside")
    policy = AccessPolicy((folders / "outside", folders / "inside"))
    assert policy.resolve("clip.mp4") == folders / "inside" / "clip.mp4"
    assert policy.resolve("secret.png") == folders / "outside" / "secret.png"
    with pytest.raises(MediaNotFoundError):
        policy.resolve("neither.png")


def test_relative_paths_may_count_from_the_working_directory_if_they_lead_inside(folders, monkeypatch):
    monkeypatch.chdir(folders)
    policy = AccessPolicy((folders / "inside",))
    assert policy.resolve("inside/clip.mp4") == folders / "inside" / "clip.mp4"
    (folders / "inside" / "inside").mkdir()
    (folders / "inside" / "inside" / "clip.mp4").write_bytes(b"x")
    assert policy.resolve("inside/clip.mp4") == folders / "inside" / "inside" / "clip.mp4"
    for there, missing in (("outside/secret.png", "outside/missing.png"), ("outside", "missing")):
        for name in (there, missing):
            with pytest.raises(MediaNotFoundError, match=str(folders / "inside" / name)):
                policy.resolve(name)


def test_a_deleted_working_directory_hinders_no_one(folders, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    policy = AccessPolicy((folders / "inside",))
    assert policy.resolve("clip.mp4") == folders / "inside" / "clip.mp4"
    with pytest.raises(MediaNotFoundError):
        policy.resolve("none.mp4")


def test_home_is_a_place_like_others_under_roots(folders, monkeypatch):
    monkeypatch.setenv("HOME", str(folders))
    policy = AccessPolicy((folders / "inside",))
    assert policy.resolve("~/inside/clip.mp4") == folders / "inside" / "clip.mp4"
    assert refusal(policy, "~") == refusal(policy, "~/outside/secret.png") == refusal(policy, "~/missing")


def test_under_roots_the_home_of_another_user_is_an_ordinary_name(folders):
    policy = AccessPolicy((folders / "inside",))
    for name in ("~root/.profile", "~nobody-of-that-name/.profile"):
        with pytest.raises(MediaNotFoundError, match=str(folders / "inside")):
            policy.resolve(name)


def test_no_roots(folders):
    nothing = AccessPolicy((), "`a key`")
    assert "`a key`" in refusal(nothing, folders / "inside" / "clip.mp4")
    assert refusal(nothing, "clip.mp4") == refusal(nothing, "/no/such/place")
