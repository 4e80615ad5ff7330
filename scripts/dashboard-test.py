"""What a person does with the dashboard, done in headless Chromium; started by dashboard-test.sh.

Each test is a sentence and has a page of its own. Whatever the page logs as an error, any breach of its content security
policy, and any sideways scrolling fails the test that caused it. Names of tests as arguments run those alone.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

ARBSTR = os.environ["ARBSTR"]
CHROMIUM = os.environ["CHROMIUM"]
SHOTS = os.environ.get("SHOTS")
TOKEN = "a-token-for-the-test"
MODELS = ["gpt-4o", "gpt-4o-mini", "claude-3.5-sonnet"]
WIDTHS = {1280: 900, 390: 844}
THEMES = ["light", "dark"]
# The built-in providers fail now and then, so that a circuit may be open.
HEALTH = re.compile("Healthy|Degraded")


class House:
    """arbstr with its built-in providers and a database of its own."""

    def __init__(self, token=None, port=0):
        self.folder = tempfile.TemporaryDirectory(prefix="arbstr-dashboard-")
        self.token = token
        self.start(port)

    def start(self, port):
        config = Path(self.folder.name, "arbstr.toml")
        secret = f'auth_token = "{self.token}"\n' if self.token else ""
        # --mock replaces the provider, but a config without one is none.
        config.write_text(f'[server]\nlisten = "127.0.0.1:{port}"\n{secret}[database]\npath = "{self.folder.name}/arbstr.db"\n'
                          '[[providers]]\nname = "none"\nurl = "http://127.0.0.1:1/v1"\nmodels = ["none"]\n')
        config.chmod(0o600)
        log = Path(self.folder.name, "log")
        self.process = subprocess.Popen([ARBSTR, "serve", "--mock", "-c", config], cwd=self.folder.name,
                                        stdout=log.open("w"), stderr=subprocess.STDOUT)
        self.port = wait_for(lambda: listening(log.read_text()), f"arbstr did not start:\n{log.read_text()}")
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self):
        self.process.terminate()
        self.process.wait(20)

    def call(self, path, body=None):
        headers = {"content-type": "application/json"}
        if self.token:
            headers["authorization"] = f"Bearer {self.token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers)
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.read(), response.headers

    def json(self, path):
        return json.loads(self.call(path)[0])

    def ask(self, number=0, **members):
        """One request; returns its id."""
        body = {"model": MODELS[number % len(MODELS)], "stream": number % 2 == 0,
                "messages": [{"role": "user", "content": f"Question {number}: " + "why " * (number % 40)}], **members}
        return self.call("/v1/chat/completions", body)[1]["x-arbstr-request-id"]

    def fill(self, requests):
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(self.ask, range(requests)))
        wait_for(lambda: self.json("/v1/stats")["totals"]["in_progress"] == 0, "requests stay in progress")


def listening(log):
    found = [line for line in log.splitlines() if "listening on http://" in line]
    return found and int(found[0].split("listening on http://")[1].split()[0].rsplit(":", 1)[1].strip('"'))


def wait_for(ready, otherwise, seconds=15):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = ready()
        if answer:
            return answer
        time.sleep(0.1)
    raise AssertionError(otherwise)


class Bench:
    """A browser and the houses that tests share."""

    def __init__(self, browser):
        self.browser = browser
        self.full, self.empty, self.guarded = House(), House(), House(TOKEN)
        self.full.fill(130)
        self.guarded.fill(3)
        self.name = ""

    @contextmanager
    def page(self, house, path="#/", width=1280, theme="light", expected=(), init=None):
        """A page that fails its test when it complains; `expected` are complaints that belong to it."""
        context = self.browser.new_context(viewport={"width": width, "height": WIDTHS[width]}, color_scheme=theme)
        page = context.new_page()
        complaints = []
        note = lambda text: None if any(word in text for word in expected) else complaints.append(text)
        page.on("console", lambda message: note(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: note(str(error)))
        page.on("dialog", lambda dialog: (note(f"a dialog: {dialog.message}"), dialog.dismiss()))
        page.add_init_script("addEventListener('securitypolicyviolation', e => console.error('policy: ' + e.violatedDirective))")
        if init:
            init(page)
        page.goto(f"{house.url}/{path}")
        yield page
        sideways = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        context.close()
        assert sideways <= 0, f"scrolls sideways by {sideways} px"
        assert not complaints, complaints

    def shot(self, page, name):
        if SHOTS:
            page.wait_for_timeout(300)
            page.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)

    def close(self):
        for house in (self.full, self.empty, self.guarded):
            house.stop()


def figure(page, label):
    return page.locator(f'[data-kpi="{label}"] .value')


def every_view_loads_in_both_themes_and_widths(bench):
    request = bench.full.json("/v1/requests?limit=1")["data"][0]["correlation_id"]
    views = {"overview": "#/", "hour": "#/?range=1h", "month": "#/?range=30d", "all": "#/?range=all", "requests": "#/requests",
             "request": f"#/requests/{request}", "providers": "#/providers"}
    for theme in THEMES:
        for width in WIDTHS:
            for name, path in views.items():
                with bench.page(bench.full, path, width, theme) as page:
                    expect(page.locator(".card").first).to_be_visible()
                    expect(page.locator("#health")).to_have_text(HEALTH)
                    bench.shot(page, f"{name}-{width}-{theme}")
            with bench.page(bench.empty, "#/", width, theme) as page:
                expect(page.get_by_role("heading", name="No requests yet")).to_be_visible()
                expect(page.locator("pre")).to_contain_text(f"curl {bench.empty.url}/v1/chat/completions")
                bench.shot(page, f"empty-{width}-{theme}")


def the_overview_shows_the_figures_of_stats(bench):
    stats = bench.full.json("/v1/stats?range=24h&group_by=model")
    totals = stats["totals"]
    with bench.page(bench.full) as page:
        expect(figure(page, "Requests")).to_have_text(f"{totals['requests']:,}")
        assert float(figure(page, "Spent").locator("[data-exact]").get_attribute("data-exact")) == totals["cost_sats"]
        assert float(figure(page, "Saved").locator("[data-exact]").get_attribute("data-exact")) == totals["savings_sats"]
        shown = float(figure(page, "Spent").locator("[data-exact]").inner_text().replace(",", ""))
        assert abs(shown - totals["cost_sats"]) <= 0.005 * totals["cost_sats"] + 0.005, shown
        assert figure(page, "First byte, p50").inner_text() == f"{totals['latency_ms']['p50']} ms"
        share = figure(page, "Success").inner_text()
        assert abs(float(share.removesuffix(" %")) - totals["success_rate"] * 100) < 0.06, share
        rows = page.locator('table:has(caption:text("Spend and service by model")) tbody tr')
        expect(rows).to_have_count(len(stats["groups"]))
        for row, group in zip(rows.all(), stats["groups"]):
            assert row.locator("th").inner_text() == group["key"]
            assert row.locator("td").first.inner_text() == f"{group['requests']:,}"
        page.get_by_role("button", name="Provider", exact=True).click()
        providers = bench.full.json("/v1/stats?range=24h&group_by=provider")["groups"]
        expect(page.locator('table:has(caption:text("by provider")) tbody tr')).to_have_count(len(providers))


def a_chart_reads_out_its_figures(bench):
    with bench.page(bench.full) as page:
        chart = page.locator(".chart").filter(has_text="Requests").first
        chart.locator("summary").click()
        hours = bench.full.json("/v1/stats?range=24h&group_by=hour")["groups"]
        counted = sum(int(text.replace(",", "")) for text in chart.locator("tbody td:nth-child(2)").all_inner_texts() if text != "–")
        assert counted == sum(hour["succeeded"] for hour in hours), counted
        box = chart.locator(".u-over").bounding_box()
        page.mouse.move(box["x"] + box["width"] - 4, box["y"] + box["height"] / 2)
        expect(chart.locator(".when")).not_to_be_empty()


def the_list_follows_a_new_request_live(bench):
    with bench.page(bench.full, "#/requests") as page:
        expect(page.locator("tbody tr")).to_have_count(50)
        request = bench.full.ask(7)
        link = page.locator("tbody tr").first.locator("a")
        expect(link).to_have_attribute("href", f"#/requests/{request}", timeout=5000)
        page.get_by_role("button", name="Live").click()
        held = bench.full.ask(8)
        page.wait_for_timeout(2600)
        expect(link).to_have_attribute("href", f"#/requests/{request}")
        page.get_by_role("button", name="Paused").click()
        expect(link).to_have_attribute("href", f"#/requests/{held}", timeout=5000)


def a_request_under_way_is_followed_to_its_end(bench):
    with bench.page(bench.empty, "#/requests") as page:
        asking = threading.Thread(target=bench.empty.ask, args=(0,), kwargs={"messages": [{"role": "user", "content": "why " * 900}]})
        asking.start()
        expect(page.locator("tbody .badge").first).to_have_text("Under way", timeout=8000)
        page.locator("tbody a").first.click()
        expect(page.locator("h1 .badge")).to_have_text("Under way")
        expect(page.locator("main")).not_to_contain_text("unknown")
        expect(page.locator("h1 .badge")).to_have_text("Answered", timeout=60_000)
        expect(page.locator(".attempts li").first).to_be_visible()
        asking.join()


def a_hidden_page_asks_nothing(bench):
    with bench.page(bench.full, "#/requests") as page:
        expect(page.locator("tbody tr").first).to_be_visible()
        page.evaluate("""Object.defineProperty(document, 'hidden', { get: () => window.away });
            window.away = true; document.dispatchEvent(new Event('visibilitychange'))""")
        page.wait_for_timeout(300)
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.wait_for_timeout(6000)
        assert not asked, asked
        page.evaluate("window.away = false; document.dispatchEvent(new Event('visibilitychange'))")
        page.wait_for_timeout(500)
        assert asked, "nothing is asked when it is shown again"


def filters_and_pages_narrow_the_list(bench):
    with bench.page(bench.full, "#/requests") as page:
        page.get_by_label("Model").select_option("gpt-4o-mini")
        expect(page.locator("tbody td.grow", has_text="claude")).to_have_count(0)
        assert set(page.locator("tbody td.grow").all_inner_texts()) == {"gpt-4o-mini"}
        assert "model=gpt-4o-mini" in page.url
        page.get_by_label("Model").select_option("")
        expect(page.locator("tbody tr")).to_have_count(50)
        first = page.locator("tbody tr").first.locator("a").get_attribute("href")
        page.get_by_role("button", name="Older").click()
        expect(page.get_by_text("Page 2")).to_be_visible()
        second = page.locator("tbody tr").first.locator("a").get_attribute("href")
        assert first != second
        page.get_by_role("button", name="Newer").click()
        expect(page.locator("tbody tr").first.locator("a")).to_have_attribute("href", first)
        page.get_by_label("Order").select_option("-cost_sats")
        dearest = bench.full.json("/v1/requests?sort=-cost_sats&limit=1")["data"][0]["correlation_id"]
        expect(page.locator("tbody tr").first.locator("a")).to_have_attribute("href", f"#/requests/{dearest}")
    with bench.page(bench.full, "#/requests?model=never-heard-of") as page:
        expect(page.get_by_role("heading", name="No request matches")).to_be_visible()


def a_request_has_a_page_with_cost_attempts_and_plan(bench):
    rows = bench.full.json("/v1/requests?limit=200&success=true")["data"]
    chosen = next((row for row in rows if row["attempts"] > 1), rows[0])["correlation_id"]
    detail = bench.full.json(f"/v1/requests/{chosen}")
    with bench.page(bench.full, f"#/requests/{chosen}") as page:
        expect(page.get_by_role("heading", level=1)).to_contain_text(detail["model"])
        expect(page.locator(".attempts li")).to_have_count(len(detail["attempts"]))
        expect(page.locator('table:has(caption:text("The plan")) tbody tr')).to_have_count(len(detail["plan"]["candidates"]))
        title = figure(page, "Cost").locator("[title]").get_attribute("title")
        assert float(title.removesuffix(" sats").replace(",", "")) == detail["cost_sats"], title
        parts = page.locator("table.parts tbody td:last-child").all_inner_texts()
        assert abs(sum(float(part) for part in parts) - detail["cost_sats"]) < 0.01, parts
        page.get_by_text("The whole record").click()
        assert json.loads(page.locator("details pre").inner_text()) == detail
    with bench.page(bench.full, "#/requests/no-such-id", expected=["404"]) as page:
        expect(page.get_by_role("heading", name="No such request")).to_be_visible()


def a_failure_is_told_in_words(bench):
    row = bench.full.json("/v1/requests?limit=1")["data"][0]["correlation_id"]
    detail = bench.full.json(f"/v1/requests/{row}")
    first = detail["plan"]["candidates"][0]
    tried = {"provider": first["provider"], "model": first["model"], "outcome": "status=401", "status": 401, "started_ms": 0, "duration_ms": 2, "cost_sats": None}
    answer = lambda page: page.route(f"**/v1/requests/{row}", lambda route: route.fulfill(json=detail))
    told = {"all_providers_failed": "Every provider that was asked failed. The client got status 503.",
            "upstream_error: timeout": "The provider did not answer in time. The client got status 503.",
            "never_heard_of": "never_heard_of (status 503)"}
    for code, sentence in told.items():
        detail.update(success=False, error_message=code, error_status=503, attempts=[tried, {**tried, "outcome": "error=timeout"}])
        with bench.page(bench.full, f"#/requests/{row}", init=answer) as page:
            expect(page.locator(".notice.bad")).to_have_text(sentence)
            expect(page.locator(".attempts li").first).to_contain_text("answered 401 (key refused)")
            plan = page.locator('table:has(caption:text("The plan")) tbody tr')
            expect(plan.first).to_contain_text("tried 2 times: answered 401 (key refused), did not answer in time")
            expect(plan.filter(has_text="tried")).to_have_count(1)


def a_provider_has_a_card_with_prices_and_standing(bench):
    providers = bench.full.json("/providers")["data"]
    with bench.page(bench.full, "#/providers") as page:
        expect(page.locator("section.provider")).to_have_count(len(providers))
        for provider in providers:
            card = page.locator("section.provider").filter(has=page.get_by_role("heading", name=provider["name"]))
            expect(card.locator(".pill")).not_to_be_empty()
            expect(card.locator("tbody tr")).to_have_count(len(provider["models"]))
            expect(card.locator("tbody tr").first).to_contain_text(f"{provider['models'][0]['output_rate']:,}")
    # One that only refuses has no request to its name, as another answers in its place.
    refusing = bench.full.json("/providers")
    for model in refusing["data"][0]["models"]:
        model["success_rate"] = 0.0
    refusing["data"][0].update(circuit="closed", suspended_ms=None, cooling_ms=None, name='a"b')
    for model in refusing["data"][0]["models"]:
        model.update(circuit="closed", suspended_ms=None)
    metrics = ['# TYPE arbstr_attempts_total counter', *(f'arbstr_attempts_total{{outcome="{outcome}",provider="a\\"b",status="{status}"}} {times}'
               for outcome, status, times in [("status", 401, 3), ("timeout", "none", 1200)]), 'arbstr_other_total{provider="a"} 7', ""]
    def refuse(page):
        page.route("**/providers", lambda route: route.fulfill(json=refusing))
        page.route("**/metrics", lambda route: route.fulfill(body="\n".join(metrics), content_type="text/plain"))
    with bench.page(bench.full, "#/providers", init=refuse) as page:
        card = page.locator("section.provider").first
        expect(card.locator(".pill")).to_have_text("Failing")
        expect(card).to_contain_text("1,200 × did not answer in time, 3 × answered 401 (key refused)")
        expect(card).to_contain_text("1,203 of 1,203")
    found = bench.full.json("/providers")
    found["btc_price"] = {"usd": 97000.5, "age_secs": 320, "failing_secs": None, "error": None}
    found["data"][0]["discovery"] = {"models": 345, "age_secs": 4000, "failing_secs": 60, "error": "answered 503"}
    found["data"][1].update(circuit="open", cooling_ms=4000)
    found["data"][0]["models"] = [{**found["data"][0]["models"][0], "model": f"model-{number}", "input_rate": None} for number in range(345)]
    answer = lambda page: page.route("**/providers", lambda route: route.fulfill(json=found))
    with bench.page(bench.full, "#/providers", width=390, init=answer) as page:
        expect(page.get_by_text("1 bitcoin = 97,000.5 USD, read 5 min 20 s ago")).to_be_visible()
        expect(page.get_by_text("the list is 1 h 6 min old: answered 503")).to_be_visible()
        expect(page.locator(".provider .pill").nth(1)).to_have_text("Circuit open")
        first = page.locator("section.provider").first
        expect(first.locator("tbody tr")).to_have_count(8)
        expect(first.locator("tbody tr").first).to_contain_text("unknown")
        first.get_by_role("button", name="Show all 345 models").click()
        expect(first.locator("tbody tr")).to_have_count(345)


def the_token_is_asked_once_and_kept_in_the_tab(bench):
    with bench.page(bench.guarded, "#/requests", expected=["401"]) as page:
        field = page.get_by_label("Token")
        expect(field).to_be_focused()
        field.fill("wrong")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_contain_text("does not accept")
        bench.shot(page, "sign-in-1280-light")
        field.fill(TOKEN)
        field.press("Enter")
        expect(page.locator("tbody tr")).to_have_count(3)
        kept = page.evaluate("[JSON.stringify(localStorage), document.cookie, location.href].join()")
        assert TOKEN not in kept, kept
        page.reload()
        expect(page.locator("tbody tr")).to_have_count(3)
        page.get_by_role("button", name="Sign out").click()
        expect(field).to_be_visible()
        expect(page.locator("tbody tr")).to_have_count(0)
        assert page.evaluate("sessionStorage.length") == 0


def the_theme_follows_the_system_until_chosen(bench):
    paper = "getComputedStyle(document.body).backgroundColor"
    with bench.page(bench.empty, theme="dark") as page:
        dark = page.evaluate(paper)
        page.emulate_media(color_scheme="light")
        expect(page.locator("html")).to_have_attribute("data-theme", "light")
        light = page.evaluate(paper)
        assert dark != light
        button = page.locator("#theme")
        button.click()
        button.click()
        assert page.evaluate(paper) == dark
        page.reload()
        assert page.evaluate(paper) == dark
        expect(button).to_have_text("Dark")


def the_keyboard_reaches_everything(bench):
    with bench.page(bench.full, "#/requests") as page:
        expect(page.locator("tbody tr").first).to_be_visible()
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the figures")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_be_focused()
        for _ in range(8):
            page.keyboard.press("Tab")
        focused = page.locator(":focus")
        assert focused.get_attribute("href").startswith("#/requests/"), focused.evaluate("e => e.outerHTML")
        page.wait_for_timeout(2500)
        expect(page.locator(":focus")).to_have_count(1)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Attempts")).to_be_visible()


def text_has_contrast_and_controls_have_names(bench):
    request = bench.full.json("/v1/requests?limit=1")["data"][0]["correlation_id"]
    for theme in THEMES:
        for path in ["#/", "#/requests", f"#/requests/{request}", "#/providers"]:
            with bench.page(bench.full, path, theme=theme) as page:
                expect(page.locator(".card").first).to_be_visible()
                faint = page.evaluate(CONTRAST)
                assert not faint, f"{theme} {path}: {faint}"
                unnamed = page.evaluate("""[...document.querySelectorAll('button, a, select, input')]
                    .filter(e => !(e.textContent.trim() || e.getAttribute('aria-label') || e.labels?.length)).map(e => e.outerHTML)""")
                assert not unnamed, unnamed
                assert page.locator("h1").count() == 1


def a_server_that_goes_is_noticed_and_so_is_its_return(bench):
    house = House()
    try:
        house.fill(2)
        with bench.page(house, "#/requests", expected=["ERR_CONNECTION", "Failed to load"]) as page:
            expect(page.locator("tbody tr")).to_have_count(2)
            house.stop()
            expect(page.get_by_text("arbstr does not answer")).to_be_visible(timeout=15_000)
            expect(page.locator("tbody tr")).to_have_count(2)
            expect(page.locator("#health")).to_have_text("No answer")
            expect(page.get_by_text("What you see is what arbstr said last")).to_be_visible(timeout=10_000)
            expect(page.get_by_role("button", name="Waiting")).to_be_visible()
            bench.shot(page, "gone-1280-light")
            house.start(house.port)
            expect(page.get_by_text("arbstr does not answer")).to_have_count(0, timeout=40_000)
            expect(page.locator("#health")).to_have_text(HEALTH)
            expect(page.get_by_role("button", name="Live")).to_be_visible(timeout=10_000)
    finally:
        house.stop()


def a_script_that_does_not_come_is_told(bench):
    without = lambda file: lambda page: page.route(f"**/{file}", lambda route: route.fulfill(status=404))
    with bench.page(bench.full, init=without("table.js"), expected=["404"]) as page:
        expect(page.get_by_text("one of them could not be loaded")).to_be_visible(timeout=5000)
    with bench.page(bench.full, init=without("uPlot.iife.min.js"), expected=["404"]) as page:
        expect(page.get_by_text("The library that draws this could not be loaded")).to_have_count(3)
        expect(page.locator(".unloaded")).to_have_count(0)


def a_store_that_is_behind_is_told(bench):
    store = {"database_ready": False, "journal_ready": True, "depth": 12, "lag_ms": 9000, "memory_only": 3, "dropped": 1, "last_error": "disk full"}
    health = {"status": "degraded", "open_circuits": [], "store": store}
    answer = lambda page: page.route("**/health", lambda route: route.fulfill(json=health))
    with bench.page(bench.full, init=answer) as page:
        expect(page.locator("#health")).to_have_text("Degraded")
        for text in ["12 records wait", "disk full", "held in memory only", "1 record lost"]:
            expect(page.locator("#notices")).to_contain_text(text)
    health["open_circuits"] = [{"provider": "beta", "model": None, "state": "open"}, {"provider": "beta", "model": "m", "state": "half_open"}]
    with bench.page(bench.full, init=answer) as page:
        expect(page.get_by_role("link", name="Degraded")).to_have_attribute("title", "beta: circuit open\nbeta for m: being tried again")
        page.get_by_role("link", name="Degraded").click()
        expect(page.get_by_role("heading", name="Providers")).to_be_visible()
    fault = {"error": {"message": "records cannot be read now: locked", "type": "server_error", "code": "records_unavailable"}}
    answer = lambda page: page.route("**/v1/stats*", lambda route: route.fulfill(status=503, json=fault))
    with bench.page(bench.full, init=answer, expected=["503"]) as page:
        expect(page.get_by_text("records cannot be read now: locked")).to_be_visible()


def a_hostile_name_stays_text(bench):
    hostile = "<img src=x onerror=alert(1)>\u202e\"'</script><script>alert(2)</script>"
    providers = bench.full.json("/providers")
    providers["data"][0]["name"] = hostile
    providers["data"][0]["models"][0]["model"] = hostile
    page_of = bench.full.json("/v1/requests?limit=5")
    for row in page_of["data"]:
        row.update(model=hostile, provider=hostile, success=False, error_message=hostile)
    def answer(page):
        page.route("**/providers", lambda route: route.fulfill(json=providers))
        page.route("**/v1/requests?*", lambda route: route.fulfill(json=page_of))
    for path in ["#/providers", "#/requests", "#/"]:
        with bench.page(bench.full, path, width=390, init=answer) as page:
            expect(page.locator("bdi", has_text="<img src=x").first).to_be_visible()
            assert page.locator("main img, main script").count() == 0
            assert "\u202e" not in page.locator("main").inner_text()
            expect(page.locator("bdi", has_text="\\u{202e}").first).to_be_visible()
    detail = bench.full.json(f"/v1/requests/{page_of['data'][0]['correlation_id']}")
    detail.update(model=hostile, provider=hostile, error_message=hostile, success=False)
    answer = lambda page: page.route("**/v1/requests/*", lambda route: route.fulfill(json=detail))
    with bench.page(bench.full, f"#/requests/{detail['correlation_id']}", init=answer) as page:
        page.get_by_text("The whole record").click()
        assert json.loads(page.locator("details pre").inner_text()) == detail
        assert "\u202e" not in page.locator("body").inner_text()


def unknown_and_estimated_costs_are_told_apart(bench):
    page_of = bench.full.json("/v1/requests?limit=3")
    unknown, estimated, _ = page_of["data"]
    unknown.update(cost_sats=None, estimated_cost_sats=None)
    estimated.update(cost_sats=None, estimated_cost_sats=1.25)
    answer = lambda page: page.route("**/v1/requests?*", lambda route: route.fulfill(json=page_of))
    with bench.page(bench.full, "#/requests", init=answer) as page:
        costs = page.locator("tbody td.strong").all_inner_texts() if page.locator("tbody tr").first.is_visible() else []
        expect(page.locator("tbody tr")).to_have_count(3)
        costs = page.locator("tbody td.strong").all_inner_texts()
        assert costs[0] == "unknown" and costs[1].startswith("≈ 1.25"), costs


def it_works_behind_a_path_prefix(bench):
    class Prefixed(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            if not self.path.startswith("/arbstr/"):
                return self.answer(404, {}, b"")
            try:
                with urllib.request.urlopen(bench.full.url + self.path.removeprefix("/arbstr"), timeout=10) as response:
                    self.answer(response.status, response.headers, response.read())
            except urllib.error.HTTPError as error:
                self.answer(error.code, error.headers, error.read())

        def answer(self, status, headers, body):
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() in ("content-type", "content-security-policy"):
                    self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Prefixed)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    behind = type("Behind", (), {"url": f"http://127.0.0.1:{server.server_port}/arbstr"})
    with bench.page(behind, "#/requests") as page:
        page.locator("tbody tr").first.locator("a").click()
        expect(page.get_by_role("heading", name="Attempts")).to_be_visible()
        expect(page.locator("#health")).to_have_text(HEALTH)
    server.shutdown()


# Texts below 4.5 to 1 against what is behind them (WCAG 2.2, 1.4.3).
CONTRAST = """(() => {
  const parse = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const light = ([r, g, b]) => { const f = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
  const behind = (node) => { for (; node; node = node.parentElement) { const c = parse(getComputedStyle(node).backgroundColor);
    if (c[3] === 1) return c; } return [255, 255, 255]; };
  const faint = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility() || node.closest('.skip, noscript, :disabled')) continue;
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(behind(node))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) faint.add(`${walker.currentNode.data.trim().slice(0, 20)} ${ratio.toFixed(2)}`);
  }
  return [...faint];
})()"""

TESTS = [
    every_view_loads_in_both_themes_and_widths,
    the_overview_shows_the_figures_of_stats,
    a_chart_reads_out_its_figures,
    the_list_follows_a_new_request_live,
    a_request_under_way_is_followed_to_its_end,
    a_hidden_page_asks_nothing,
    filters_and_pages_narrow_the_list,
    a_request_has_a_page_with_cost_attempts_and_plan,
    a_failure_is_told_in_words,
    a_provider_has_a_card_with_prices_and_standing,
    the_token_is_asked_once_and_kept_in_the_tab,
    the_theme_follows_the_system_until_chosen,
    the_keyboard_reaches_everything,
    text_has_contrast_and_controls_have_names,
    a_server_that_goes_is_noticed_and_so_is_its_return,
    a_script_that_does_not_come_is_told,
    a_store_that_is_behind_is_told,
    a_hostile_name_stays_text,
    unknown_and_estimated_costs_are_told_apart,
    it_works_behind_a_path_prefix,
]


def main():
    chosen = [test for test in TESTS if not sys.argv[1:] or test.__name__ in sys.argv[1:]]
    failed = 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        bench = Bench(browser)
        try:
            for test in chosen:
                try:
                    test(bench)
                    print(f"dashboard: ok      {test.__name__.replace('_', ' ')}", flush=True)
                except Exception:
                    failed += 1
                    # Without the outline of the whole page that playwright adds.
                    said = traceback.format_exc().split("Aria snapshot:")[0]
                    print(f"dashboard: FAILED  {test.__name__.replace('_', ' ')}\n{said}", flush=True)
        finally:
            bench.close()
            browser.close()
    print(f"dashboard: {len(chosen) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
