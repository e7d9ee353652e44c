"""`pointsman monitor`: a table, one JSON value, and a page that needs nothing from outside."""

import json
from datetime import UTC, datetime
from html.parser import HTMLParser

import monitored
import pytest
from command_line import run

from data.store import open_store


@pytest.fixture
def logged(home, monkeypatch):
    monkeypatch.setattr(monitored, "NOW", datetime.now(UTC))
    with open_store("") as store:
        monitored.fill(store, 120, ago=(36, 7.1), rated=0.5)
        monitored.fill(store, 60, ago=(6.9, 0.01), rated=0.5, bad={"failed": 0.5}, seed=2)
        monitored.fill(store, 20, ago=(6.9, 0.01), model="m/<script>\x1b[31m", domain="code", seed=3)


def test_the_table_names_models_alarms_drift_and_what_is_not_known(logged):
    ran = run("monitor")
    assert ran.code == 0
    assert "llamacpp/small" in ran.out and "30 days before" in ran.out
    assert "alarm: llamacpp/small in triage: errors and interruptions rose from 0.0% to" in ran.out
    assert "population stability index" in ran.out
    assert "\x1b" not in ran.out
    assert "not known:" in ran.err


def test_json_is_one_value(logged):
    found = json.loads(run("monitor", "--json", "--days", "7").out)
    assert {"since", "until", "baseline_since", "rows", "alarms", "questions_asked", "drift", "unknown"} == set(found)
    assert [row["model"] for row in found["rows"]] == ["llamacpp/small", "m/<script>\x1b[31m"]
    assert found["rows"][0]["now"]["answers"] == 60 and found["rows"][0]["before"]["answers"] == 120
    assert found["alarms"][0]["what"] == "failed" and found["drift"]["warns"] is True


def test_one_domain_alone_can_be_asked_for(logged):
    found = json.loads(run("monitor", "--json", "--domain", "code").out)
    assert [row["domain"] for row in found["rows"]] == ["code"]


def test_the_page_has_plots_and_reaches_nothing_outside(logged, tmp_path):
    file = tmp_path / "monitor.html"
    ran = run("monitor", "--html", str(file))
    assert ran.code == 0 and "monitor.html" in ran.err
    page = file.read_text()
    tags = Tags()
    tags.feed(page)
    assert tags.names.count("svg") == 6
    assert "script" not in tags.names and "link" not in tags.names and "img" not in tags.names
    assert not [value for name, value in tags.attributes if name in ("src", "href") and not (value or "").startswith("#")]
    for heading in ("Alarms", "Domains of the questions", "Answers", "Speed and length", "Day by day", "What cannot be known"):
        assert f"<h2>{heading}</h2>" in page
    assert "\x1b" not in page and "prefers-color-scheme: dark" in page


def test_an_empty_log_says_how_to_begin(home):
    ran = run("monitor", "--domain", "triage")
    assert (ran.code, ran.out) == (0, "")
    assert "no answers of the last 7 days in 'triage'" in ran.err


def test_a_page_that_cannot_be_written_is_one_line(logged, tmp_path):
    (tmp_path / "file").write_text("")
    ran = run("monitor", "--html", str(tmp_path / "file" / "monitor.html"))
    ran.refused("cannot make the folder")


def test_days_have_to_be_days(home):
    assert run("monitor", "--days", "0").code == 2


class Tags(HTMLParser):
    """The tags and attributes of a page."""

    def __init__(self):
        super().__init__()
        self.names, self.attributes = [], []

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.attributes += attrs
