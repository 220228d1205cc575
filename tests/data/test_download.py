"""Downloads go on where they stopped, and never end in other bytes than the expected."""

import hashlib
import threading
from types import SimpleNamespace

import pytest

from cbnorm.data import download
from cbnorm.data.entry import Archive
from cbnorm.data.failure import SourceError

BODY = bytes(range(251)) * 8000


@pytest.fixture
def fetch(site, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "PAUSE", 0.0)
    site.body = BODY
    archive = Archive(site.url, hashlib.md5(BODY).hexdigest(), len(BODY))
    part = tmp_path / "some.part"
    seen = []

    def run():
        return download.fetch(archive, part, lambda done, total: seen.append((done, total)))

    run.part, run.seen = part, seen
    return run


def test_a_download_is_whole_and_tells_how_far_it_is(fetch, site):
    assert fetch().read_bytes() == BODY
    assert fetch.seen[-1] == (len(BODY), len(BODY))
    assert site.asked == [None]


def test_the_part_of_an_earlier_attempt_is_continued(fetch, site):
    fetch.part.write_bytes(BODY[:70_000])
    assert fetch().read_bytes() == BODY
    assert site.asked == ["bytes=70000-"]
    assert fetch.seen[-1] == (len(BODY), len(BODY))


@pytest.mark.parametrize("length", [True, False])
def test_a_connection_that_breaks_off_is_resumed(fetch, site, length):
    site.plan = [{"cut": 300_000, "length": True}, {"cut": 900_000, "length": True}, {"length": length}]
    assert fetch().read_bytes() == BODY
    assert site.asked == [None, "bytes=300000-", "bytes=900000-"]


def test_a_server_without_ranges_starts_over(fetch, site):
    fetch.part.write_bytes(BODY[:1000])
    site.plan = [{"ranges": False}]
    assert fetch().read_bytes() == BODY


def test_an_answer_from_another_place_is_not_appended():
    def continues(status, given):
        return download._continues_at(SimpleNamespace(status=status, headers={"Content-Range": given}), 1000)

    assert continues(206, "bytes 1000-1999/2000")
    assert not continues(206, "bytes 0-1999/2000")
    assert not continues(206, "bytes 10000-1999/2000")
    assert not continues(200, "bytes 1000-1999/2000")


def test_a_damaged_part_is_fetched_again_from_the_beginning(fetch, site):
    fetch.part.write_bytes(b"?" * 1000)
    assert fetch().read_bytes() == BODY
    assert site.asked == ["bytes=1000-", None]


def test_a_part_that_is_complete_is_not_fetched_again(fetch, site):
    fetch.part.write_bytes(BODY)
    assert fetch().read_bytes() == BODY
    assert fetch.seen == []


def test_a_part_that_is_too_long_is_fetched_again(fetch):
    fetch.part.write_bytes(BODY + b"!")
    assert fetch().read_bytes() == BODY


def test_other_content_is_refused_and_not_kept(fetch, site):
    site.body = BODY[:-1] + b"!"
    with pytest.raises(SourceError, match=r"MD5 is [0-9a-f]{32} instead of"):
        fetch()
    assert not fetch.part.exists()


def test_a_site_that_keeps_breaking_off_leaves_the_part_for_next_time(fetch, site):
    site.plan = [{"cut": 1000}] + [{"cut": 0}] * 10
    with pytest.raises(SourceError, match="broke off after 1000 bytes; what came so far is kept"):
        fetch()
    assert fetch.part.read_bytes() == BODY[:1000]
    assert len(site.asked) == 1 + download.ATTEMPTS


def test_an_overloaded_site_is_asked_again(fetch, site):
    site.plan = [{"status": 503}, {"status": 429}]
    assert fetch().read_bytes() == BODY


def test_a_refusal_is_final(fetch, site):
    site.plan = [{"status": 404}]
    with pytest.raises(SourceError, match="HTTP status 404"):
        fetch()
    assert len(site.asked) == 1


def test_a_site_that_is_not_there_is_given_up_at_once(tmp_path):
    # Port 9 of the loopback interface: refused, nobody discards here.
    archive = Archive("http://127.0.0.1:9/x.tar.gz", "0" * 32, 1)
    with pytest.raises(SourceError, match="can't be reached"):
        download.fetch(archive, tmp_path / "x.part", lambda *_: None)


def test_a_silent_site_is_given_up(fetch, site, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.1)
    release = threading.Event()
    site.plan = [{"cut": 5000, "stall": release}] + [{"cut": 0, "stall": release}] * 10
    with pytest.raises(SourceError, match="timed out; what came so far is kept"):
        fetch()
    release.set()
    assert fetch.part.read_bytes() == BODY[:5000]
