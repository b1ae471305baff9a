"""The page in a real browser, against the real API and the real stream worker."""

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.app import STATIC
from tests.serving.conftest import Shop, shop_parts, until
from tests.serving.processes import served, streaming

CHROMIUM = Path("/usr/bin/chromium")
QUIET = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
CHANGE_MAX_S = 2.0
EVIL = '<img src="http://evil.example/x.png" onerror="document.title=1"><b>bold</b>'


@pytest.fixture
def address(shop: Shop) -> Iterator[str]:
    """API and worker, with titles that try to be more than text."""
    parts = shop_parts()
    shop.promote(replace(parts, items=parts.items.assign(title=parts.items["title"] + " " + EVIL)))
    with streaming(shop), served(shop) as (address, _):
        # The worker is up when an event reaches the online store.
        event = {"event_id": "warm", "event_type": "click", "user_id": "u4", "item_id": "i1"}
        assert httpx.post(f"{address}/v1/events", json=event).status_code == 202
        until(lambda: bool(httpx.get(f"{address}/v1/users").json()["users"][4]["recent"]))
        yield address


@pytest.fixture
def page(address: str) -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=QUIET)
        opened = browser.new_page()
        opened.complaints, opened.requested = [], []
        opened.on(
            "console", lambda m: m.type in ("error", "warning") and opened.complaints.append(m.text)
        )
        opened.on("pageerror", lambda error: opened.complaints.append(str(error)))
        opened.on("request", lambda request: opened.requested.append(request.url))
        opened.goto(address)
        opened.wait_for_selector("#for-you .card")
        yield opened
        browser.close()


def listed(page: Any, which: str = "for-you") -> list[str]:
    return page.eval_on_selector_all(f"#{which} .card", "cards => cards.map(c => c.dataset.item)")


@pytest.mark.browser
def test_a_click_changes_the_next_list(page, address, shop):
    assert page.input_value("#user") == "u0"
    before = listed(page)
    assert len(before) == 10
    assert "rung 0" in page.inner_text("#rung")
    started = time.monotonic()
    page.click("#for-you li:nth-child(4) .card")
    page.wait_for_selector("#note.shown", timeout=1000)
    assert "Event stored" in page.inner_text("#note")
    page.locator("#changed", has_text=re.compile("^changed")).wait_for()
    assert time.monotonic() - started < CHANGE_MAX_S
    after = listed(page)
    assert after != before
    # What moved is marked: new items as new, and nobody else.
    new = page.eval_on_selector_all(
        "#for-you .card:has(.new)", "all => all.map(c => c.dataset.item)"
    )
    assert set(new) == set(after) - set(before)
    marks = page.eval_on_selector_all("#for-you .move", "all => all.map(m => m.textContent)")
    assert all(re.fullmatch(r"new|[↑↓] \d+", mark) for mark in marks)
    assert page.inner_text("#trail li").startswith("Item")
    assert {event["item_id"] for event in shop.logged("events") if event["user_id"] == "u0"} == {
        before[3]
    }

    # The keyboard alone: another user by typing, then a choice with Enter.
    page.focus("#user")
    page.keyboard.type("someone quite new")
    page.keyboard.press("Enter")
    page.locator("#likes", has_text="Nobody has seen this user").wait_for()
    page.locator("#for-you .badge", has_text="popular").nth(9).wait_for()
    assert listed(page) == listed(page, "popular")
    page.focus("#for-you li:first-child .card")
    page.keyboard.press("Enter")
    page.locator("#changed", has_text=re.compile("^changed")).wait_for()
    assert page.evaluate("document.activeElement.className") == "card"

    # Titles are text, and nothing was asked of anybody else.
    assert EVIL in page.inner_text("#for-you li:first-child .title")
    assert page.query_selector(".title b, .title img") is None
    assert page.title() == "Shortlist"
    assert page.complaints == []
    assert {url for url in page.requested if not url.startswith(address)} == set()


def test_the_page_is_static_and_asks_nobody_else():
    for path in STATIC.iterdir():
        text = path.read_text()
        assert not re.findall(r"""(?:src|href|import|url\()\s*=?\s*["'(]?(?:https?:)?//""", text), (
            path
        )
        assert "innerHTML" not in text
        assert not re.search(r"<script(?![^>]*\bsrc=)", text), "an inline script breaks the policy"
        assert not re.search(r"\son\w+=", text), "an inline handler breaks the policy"
        assert "style=" not in text, "an inline style breaks the policy"


def test_the_page_and_its_files_are_served_with_a_policy(client):
    for path, kind in (
        ("/", "text/html"),
        ("/static/page.js", "javascript"),
        ("/static/page.css", "text/css"),
    ):
        answer = client.get(path)
        assert answer.status_code == 200
        assert kind in answer.headers["content-type"]
        assert "script-src 'self'" in answer.headers["content-security-policy"]
