"""What a caller's string may name: paths, file URLs, roots, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from sa2va_tools.errors import AccessDeniedError, MediaNotFoundError, RequestError
from sa2va_tools.media.source import AccessPolicy

ANYTHING = AccessPolicy(roots=None)


@pytest.fixture
def house(tmp_path: Path) -> Path:
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


def test_unrestricted_takes_absolute_relative_and_home_paths(house, monkeypatch):
    clip = house / "inside" / "clip.mp4"
    monkeypatch.chdir(house)
    monkeypatch.setenv("HOME", str(house))
    assert ANYTHING.resolve(clip) == clip
    assert ANYTHING.resolve(str(clip)) == clip
    assert ANYTHING.resolve("inside/../inside/clip.mp4") == clip
    assert ANYTHING.resolve("~/inside/clip.mp4") == clip


@pytest.mark.parametrize("start", ["file://", "file://localhost", "FILE://", "file:"])
def test_file_urls_are_percent_decoded(house, start):
    target = house / "inside" / "sub dir" / "ä #1.png"
    encoded = str(house).replace(" ", "%20") + "/inside/sub%20dir/%C3%A4%20%231.png"
    assert ANYTHING.resolve(start + encoded) == target


@pytest.mark.parametrize(
    "url", ["http://a.b/c.mp4", "https://a.b/c.mp4", "ftp://a/b", "data:image/png;base64,AA", "s3://b/k"]
)
@pytest.mark.parametrize("roots", [None, (), (Path("/srv"),)])
def test_other_schemes_are_off(url, roots):
    assert "URLs are off" in refusal(AccessPolicy(roots), url)


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
def test_what_is_no_path_is_a_bad_request(source, roots):
    with pytest.raises(RequestError):
        AccessPolicy(roots).resolve(source)


def test_names_with_a_colon_are_plain_paths(house):
    (house / "part:1.mp4").write_bytes(b"x")
    assert AccessPolicy((house,)).resolve("part:1.mp4") == house / "part:1.mp4"


def test_missing_file_names_the_nearest(house):
    with pytest.raises(MediaNotFoundError) as caught:
        AccessPolicy((house / "inside",)).resolve("clpi.mp4")
    assert "clip.mp4" in caught.value.hint
    assert str(house / "inside" / "clpi.mp4") in caught.value.message


def test_missing_unrestricted_is_not_found(house):
    with pytest.raises(MediaNotFoundError):
        ANYTHING.resolve(house / "nowhere" / "x.png")


def test_a_path_too_long_for_the_system_or_an_unknown_user_is_just_missing(house):
    with pytest.raises(MediaNotFoundError):
        AccessPolicy((house,)).resolve("a/" * 2040 + "a.png")
    with pytest.raises(MediaNotFoundError):
        ANYTHING.resolve("~nobody-of-that-name/a.png")


def test_missing_root_does_not_look_around_outside(house):
    with pytest.raises(MediaNotFoundError) as caught:
        AccessPolicy((house / "outsid",)).resolve(house / "outsid")
    assert "outside" not in caught.value.hint


def test_outside_is_refused_in_the_same_words_whether_or_not_it_exists(house):
    policy = AccessPolicy((house / "inside",))
    there = refusal(policy, house / "outside" / "secret.png")
    assert there == refusal(policy, house / "outside" / "missing.png")
    assert there == refusal(policy, "/no/such/place")
    assert there == refusal(policy, "../outside/secret.png")
    assert there == refusal(policy, f"file://{house}/outside/secret.png")
    assert there == refusal(policy, house / "inside" / "none" / ".." / ".." / "outside" / "secret.png")
    assert str(house / "inside") in there


def test_a_sibling_that_shares_the_roots_name_is_outside(house):
    (house / "inside2").mkdir()
    refusal(AccessPolicy((house / "inside",)), house / "inside2")


def test_links_are_judged_by_where_they_lead(house):
    root = house / "inside"
    (root / "escape").symlink_to(house / "outside")
    (root / "dangling").symlink_to(house / "outside" / "missing.png")
    (root / "loop").symlink_to(root / "loop")
    (root / "alias.mp4").symlink_to(root / "clip.mp4")
    (house / "door").symlink_to(root)
    policy = AccessPolicy((root,))
    assert policy.resolve("alias.mp4") == root / "clip.mp4"
    assert policy.resolve(house / "door" / "clip.mp4") == root / "clip.mp4"
    assert refusal(policy, "escape/secret.png") == refusal(policy, "escape/missing.png")
    assert refusal(policy, "dangling") == refusal(policy, "escape")
    with pytest.raises(MediaNotFoundError):
        policy.resolve("loop")


def test_a_root_may_itself_be_a_link(house):
    (house / "door").symlink_to(house / "inside")
    assert AccessPolicy((house / "door",)).resolve("clip.mp4") == house / "inside" / "clip.mp4"


def test_relative_paths_are_looked_up_in_each_root_in_turn(house, monkeypatch):
    monkeypatch.chdir(house / "inside")
    policy = AccessPolicy((house / "outside", house / "inside"))
    assert policy.resolve("clip.mp4") == house / "inside" / "clip.mp4"
    assert policy.resolve("secret.png") == house / "outside" / "secret.png"
    with pytest.raises(MediaNotFoundError):
        policy.resolve("neither.png")


def test_home_is_not_expanded_under_roots(house, monkeypatch):
    monkeypatch.setenv("HOME", str(house / "inside"))
    with pytest.raises(MediaNotFoundError):
        AccessPolicy((house / "inside",)).resolve("~/clip.mp4")


def test_without_roots_nothing_is_read_and_the_hint_gives_the_flag(house):
    nothing = AccessPolicy(())
    assert "sa2va mcp --root DIR" in refusal(nothing, house / "inside" / "clip.mp4")
    assert refusal(nothing, "clip.mp4") == refusal(nothing, "/no/such/place")
