"""The page in a real browser, as people use it: mouse, finger, keyboard, both themes, a phone, no scripts."""

import csv
import http.server
import re
import threading
from dataclasses import replace

import numpy as np
import pytest

from crossbackend.report import cells, html
from crossbackend.report.formats import sci
from tests.report import synthetic

pytestmark = pytest.mark.slow
ROWS = "#all tbody tr"


@pytest.fixture
def visit(chromium, written):
    """Open a page; afterwards no script may have failed and nothing may have been asked for but the page."""
    opened = []

    def visit(path, **options):
        options.setdefault("viewport", {"width": 1280, "height": 900})
        context = chromium.new_context(accept_downloads=True, **options)
        context.set_default_timeout(180_000)  # ms; a machine that is busy or slow is no defect of the page
        tab = context.new_page()
        tab.said, tab.asked = [], []
        tab.on("console", lambda message: tab.said.append(message.text))
        tab.on("pageerror", lambda error: tab.said.append(str(error)))
        tab.on("request", lambda request: tab.asked.append(request.url))
        path = written(path, ".html") if isinstance(path, str) else path
        tab.goto(path.as_uri())
        opened.append((context, tab, path))
        return tab

    yield visit
    for context, tab, path in opened:
        assert tab.said == []
        assert [url for url in tab.asked if not url.startswith(("data:", "blob:"))] == [path.as_uri()]
        context.close()


@pytest.fixture
def tab(visit):
    return visit("full")


def column(tab, number):
    return tab.locator(f"{ROWS} > :nth-child({number + 1})").all_text_contents()


def choose(tab, name, value):
    """Filter the records by a column."""
    tab.locator(".tools label", has_text=re.compile(f"^{name}")).locator("select").select_option(value)


def at(name, over=""):
    """Number of a column."""
    return next(i for i, c in enumerate(cells.COLUMNS) if (c.name, c.over) == (name, over))


class TestRecords:
    def test_a_hundred_at_a_time(self, tab):
        assert tab.locator(ROWS).count() == 100
        assert tab.locator("#page").text_content() == "1 to 100 of 360"
        first = tab.locator(ROWS).first.text_content()
        assert tab.locator("#back").get_attribute("aria-disabled") == "true"
        for _ in range(3):
            tab.locator("#next").click()
        assert tab.locator("#page").text_content() == "301 to 360 of 360"
        assert tab.locator(ROWS).count() == 60
        assert tab.locator("#next").get_attribute("aria-disabled") == "true"
        assert tab.evaluate("document.activeElement.id") == "next"  # whoever pages by keyboard stays there
        tab.keyboard.press("Enter")
        assert tab.locator("#page").text_content() == "301 to 360 of 360"
        for _ in range(3):
            tab.locator("#back").click()
        assert tab.locator(ROWS).first.text_content() == first

    def test_filter_and_search(self, tab):
        choose(tab, "backend", "scipy")
        assert tab.locator("#shown").text_content() == "120 of 360 records"
        assert set(column(tab, 1)) == {"scipy"}
        tab.get_by_label("Search").fill("TIMEOUT  seminorm")
        assert tab.locator("#shown").text_content() == "1 of 360 records"
        assert tab.locator(ROWS).first.text_content().startswith("neural_odescipynative")
        choose(tab, "backend", "")
        tab.get_by_label("Search").fill("1e-6")
        assert tab.locator("#shown").text_content() == "90 of 360 records"
        assert set(column(tab, at("rtol"))) == {"10⁻⁶"}
        tab.get_by_label("Search").fill("nodediff")  # no word begins in one cell and ends in the next
        assert tab.locator("#shown").text_content() == "0 of 360 records"
        tab.get_by_label("Search").fill("no such words")
        assert (tab.locator(ROWS).count(), tab.locator("#page").text_content()) == (0, "none")

    def test_a_failed_record_is_chosen_by_its_status_alone(self, tab):
        choose(tab, "status", "✕ timeout")
        assert tab.locator("#shown").text_content() == "1 of 360 records"

    def test_sorting_is_by_value_and_goes_over_all_pages(self, tab):
        known = sorted(r.error["all"] for r in synthetic.full().records if r.error["all"] is not None)
        head = tab.locator("#all thead th", has_text=re.compile("^error$"))
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == "ascending"
        assert [re.sub("at the floor$", "", text) for text in column(tab, at("error"))] == [sci(e) for e in known[:100]]
        head.locator("button").press("Enter")
        assert head.get_attribute("aria-sort") == "descending"
        assert column(tab, at("error"))[0] == sci(known[-1])
        assert tab.locator("[aria-sort]").count() == 1
        for _ in range(3):
            tab.locator("#next").click()
        assert column(tab, at("error"))[-1] == "–"  # what was not measured comes last

    def test_csv_holds_what_is_shown_on_all_pages_in_full_precision(self, tab, tmp_path):
        choose(tab, "stepping", "native")
        with tab.expect_download() as started:
            tab.get_by_role("button", name="Download CSV").click()
        assert started.value.suggested_filename == "records.csv"
        started.value.save_as(tmp_path / "records.csv")
        with (tmp_path / "records.csv").open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
        records = {r.digest: r for r in synthetic.full().records if r.stepping == "native"}
        assert {row["digest"] for row in rows} == set(records)
        assert len(rows) == len(records) == 216
        for row in rows:
            record = records[row["digest"]]
            error = record.error.get("all")
            assert row["error_all"] == ("" if error is None else row["error_all"])
            assert error is None or float(row["error_all"]) == error
            assert row["status"] == record.status

    def test_a_formula_in_a_cell_is_disarmed_in_the_csv(self, visit, tmp_path):
        run = synthetic.run()
        run.records = run.records[:1]
        run.records[0].message = '=HYPERLINK("x")'
        run.records[0].plan["problem"] = run.records[0].problem
        from crossbackend.compare import compare
        from crossbackend.report import view

        (tmp_path / "formula.html").write_bytes(html.render(view.build(compare(run))))
        tab = visit(tmp_path / "formula.html")
        with tab.expect_download() as started:
            tab.get_by_role("button", name="Download CSV").click()
        text = started.value.path().read_text(encoding="utf-8")
        assert ""","'=HYPERLINK(""x"")",""" in text

    def test_five_thousand_records(self, visit, tmp_path):
        """The rows of a run of 84 problems; its charts would take half a minute to draw and have no part in it."""
        many = synthetic.large(5000)
        view = replace(synthetic.shown("single"), rows=cells.rows(many), numbers=cells.numbers(many))
        (tmp_path / "many.html").write_bytes(html.render(view))
        tab = visit(tmp_path / "many.html")
        assert tab.locator("#shown").text_content() == "5040 of 5040 records"
        assert tab.evaluate("document.querySelectorAll('#all tr').length") == 102
        tab.get_by_label("Search").fill("neural_ode_82 torchdiffeq")
        assert tab.locator("#shown").text_content() == "20 of 5040 records"
        tab.get_by_label("Search").fill("scipy")
        assert tab.locator("#page").text_content() == "1 to 100 of 1680"
        assert tab.locator(ROWS).count() == 100  # never all at once: that is what took seconds

    def test_all_of_them_are_printed(self, tab):
        folded = tab.locator("details:not([open])").count()
        assert folded > 5
        tab.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert tab.locator(ROWS).count() == 360
        assert tab.locator("details:not([open])").count() == 0
        tab.evaluate("dispatchEvent(new Event('afterprint'))")
        assert tab.locator(ROWS).count() == 100
        assert tab.locator("details:not([open])").count() == folded


class TestCharts:
    def shown(self, tab, query):
        script = "marks => marks.filter((mark) => getComputedStyle(mark).display !== 'none').length"
        return tab.locator(query).evaluate_all(script)

    def test_backends_norms_and_stepping_switch_on_and_off(self, tab):
        boxes = tab.locator("#cost .switches")
        everything = self.shown(tab, ".mark[data-b='0'][data-s='native']")
        assert everything > 20
        assert self.shown(tab, ".mark[data-s='matched']") == 0
        boxes.get_by_label("matched").check()
        assert self.shown(tab, ".mark[data-s='matched']") > 20
        boxes.get_by_label("diffrax").uncheck()
        assert self.shown(tab, ".mark[data-b='0']") == 0
        assert self.shown(tab, ".mark[data-b='1']") > 20
        assert not tab.locator("#why .switches").get_by_label("diffrax").is_checked()  # both bars say the same
        boxes.get_by_label("diffrax").check()
        boxes.get_by_label("mixed-seminorm").uncheck()
        norm = synthetic.shown("full").names.series.index("mixed-seminorm")
        assert self.shown(tab, f".mark[data-n='{norm}']") == 0
        boxes.get_by_label("mixed-seminorm").check()
        assert self.shown(tab, ".mark[data-b='0'][data-s='native']") == everything

    def test_a_pointer_near_a_point_shows_its_value(self, tab):
        chart = tab.locator("#nfe + p + .figures .chart").first
        chart.scroll_into_view_if_needed()
        titles = chart.locator("use title").all_text_contents()
        assert tab.locator("#tip").is_hidden()
        point = chart.locator(".mark use").nth(1).bounding_box()
        tab.mouse.move(point["x"] + point["width"] / 2 + 6, point["y"] + point["height"] / 2 + 6)
        assert tab.locator("#tip").is_visible()
        assert tab.locator("#tip").text_content() in titles
        box = tab.locator("#tip").bounding_box()
        assert box["x"] >= 0
        assert box["y"] >= 0
        assert box["x"] + box["width"] <= 1280
        tab.mouse.move(5, 5)
        assert tab.locator("#tip").is_hidden()

    def test_a_solution_says_its_values(self, tab):
        chart = tab.locator("#problems .chart").first
        chart.scroll_into_view_if_needed()
        titles = chart.locator("use title").all_text_contents()
        chart.focus()
        for _ in range(3):
            tab.keyboard.press("ArrowRight")
        assert tab.locator("#tip").text_content() == titles[2]
        assert re.fullmatch(r"\S+: \S+ at t = \S+", titles[2])
        opacity = "each => getComputedStyle(each).fillOpacity"
        assert chart.locator("use.here").evaluate(opacity) == "1"
        assert chart.locator(".mark use").last.evaluate(opacity) == "0"

    def test_a_pointer_on_a_bar_shows_how_many_steps_it_counts(self, tab):
        chart = tab.locator("#steps + p + .figures .chart").first
        chart.scroll_into_view_if_needed()
        bars = chart.locator(".mark[data-counts]").first
        counts = [int(n) for n in bars.get_attribute("data-counts").split()]
        record = next(
            r for r in synthetic.full().records
            if (r.problem, r.backend, r.norm, r.stepping, r.rtol)
            == ("double_pendulum", "diffrax", "default", "native", 1e-6)
        )  # fmt: skip
        assert sum(counts) == record.backward["accepted"]
        box = bars.bounding_box()
        highest = max(range(len(counts)), key=counts.__getitem__)
        tab.mouse.move(box["x"] + box["width"] * (highest + 0.5) / len(counts), box["y"] + box["height"] / 2)
        said = tab.locator("#tip").text_content()
        assert said.startswith(f"diffrax, default: {counts[highest]} accepted, t from ")
        assert said.endswith(f"({sum(counts)} in all)")
        low, high = map(float, re.findall(r"t from (\S+) to (\S+) ", said)[0])
        steps = record.steps("backward")
        middle = ((steps.t0 + steps.t1) / 2)[steps.accepted]
        assert np.count_nonzero((middle >= low - 0.01) & (middle <= high + 0.01)) >= counts[highest]
        assert high - low == pytest.approx(0.25, rel=0.1)  # a fortieth of ten

    def test_a_finger(self, visit):
        tab = visit("full", has_touch=True, is_mobile=True, viewport={"width": 390, "height": 844})
        chart = tab.locator("#nfe + p + .figures .chart").first
        chart.scroll_into_view_if_needed()
        point = chart.locator(".mark use").nth(2).bounding_box()
        tab.touchscreen.tap(point["x"] + 3, point["y"] + 3)
        box = tab.locator("#tip").bounding_box()
        assert re.search(r"rtol 10⁻\S+: \S+ at", tab.locator("#tip").text_content())
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
        tab.touchscreen.tap(200, 5)
        assert tab.locator("#tip").is_hidden()

    def test_arrow_keys_read_the_values_of_what_is_switched_on(self, tab):
        chart = tab.locator("#nfe + p + .figures .chart").first
        tab.locator("#cost .switches").get_by_label("diffrax").uncheck()
        chart.focus()
        heard = []
        for _ in range(5):
            tab.keyboard.press("ArrowRight")
            heard.append(tab.locator("[role=status].unseen").text_content())
        assert len(set(heard)) == 5
        assert all(words.startswith("scipy") for words in heard)
        tab.keyboard.press("ArrowLeft")
        assert tab.locator("#tip").text_content() == heard[3]
        tab.keyboard.press("Escape")
        assert tab.locator("#tip").is_hidden()

    def test_none_is_flat(self, tab):
        heights = tab.locator("svg.chart").evaluate_all(
            "all => all.map((chart) => { chart.scrollIntoView(); return chart.getBoundingClientRect().height; })"
        )
        assert len(heights) > 30
        assert min(heights) > 50


class TestReaders:
    @pytest.mark.parametrize("theme", ["light", "dark"])
    @pytest.mark.parametrize("name", ["full", "statuses", "names"])
    def test_the_rules_of_accessibility_hold_in_both_themes(self, visit, name, theme):
        """Axe checks headings, landmarks, names, table scopes and contrast by WCAG 2.2 AA and best practice."""
        from axe_playwright_python.sync_playwright import Axe

        tab = visit(name, color_scheme=theme)
        tab.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        found = Axe().run(tab).response
        assert [(rule["id"], rule["nodes"][0]["html"]) for rule in found["violations"]] == []
        assert len(found["passes"]) > 20

    def test_the_themes_differ_and_charts_follow(self, visit):
        seen = {}
        for theme in ("light", "dark"):
            tab = visit("full", color_scheme=theme)
            colour = "each => getComputedStyle(each).color"
            back = tab.locator("section").first.evaluate("each => getComputedStyle(each).backgroundColor")
            line = tab.locator("#cost .mark path").first.evaluate("each => getComputedStyle(each).stroke")
            seen[theme] = (tab.locator("body").evaluate(colour), back, line)
        assert all(a != b for a, b in zip(seen["light"], seen["dark"], strict=True))

    def test_a_reader_can_skip_to_the_contents_and_every_part_has_its_place(self, tab):
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.textContent") == "Skip to the contents"
        assert tab.evaluate("document.activeElement.getBoundingClientRect().x") > 0
        for link in tab.locator("nav a").all():
            target = tab.locator(link.get_attribute("href"))
            assert target.count() == 1
        levels = [int(tag[1]) for tag in tab.locator("h1,h2,h3,h4").evaluate_all("all => all.map((h) => h.tagName)")]
        assert levels[0] == 1
        assert all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))

    @pytest.mark.parametrize("name", ["full", "names", "statuses"])
    def test_a_phone_does_not_scroll_sideways(self, visit, name):
        tab = visit(name, viewport={"width": 390, "height": 844}, is_mobile=True)
        assert tab.evaluate("document.documentElement.scrollWidth") == 390

    def test_without_scripts_everything_is_there_to_read(self, visit):
        tab = visit("full", java_script_enabled=False)
        assert tab.locator(ROWS).count() == 360
        assert tab.locator(".tools:visible").count() == 0
        assert tab.locator(".switches input:visible").count() == 0
        assert tab.locator("svg.chart:visible").count() > 30
        assert tab.locator("use title").count() > 1000  # what a browser shows by itself
        tab.locator("summary").first.click()
        assert tab.locator("details[open] table:visible").count() == 1

    @pytest.mark.parametrize("name", sorted(synthetic.MADE))
    def test_any_run_gives_a_page_without_an_error(self, visit, name):
        tab = visit(name)
        assert tab.locator("h1").text_content() == "Are the gradients the same?"
        records = len(synthetic.MADE[name]().records)
        if records:
            assert tab.locator("#shown").text_content() == f"{records} of {records} records"
        assert tab.evaluate("document.querySelectorAll('[onmouseover]').length") == 0


class TestOtherPages:
    """The list of runs and the difference of two are pages like the report: no script, the same care."""

    @pytest.fixture(scope="class")
    @classmethod
    def others(cls, tmp_path_factory):
        from crossbackend import diff
        from crossbackend.report import diff_page, index
        from tests.report.bench import store

        folder = tmp_path_factory.mktemp("runs")
        store(synthetic.every_status(), folder / "statuses #1 é")
        store(synthetic.single(), folder / "single")
        index.write_all(folder, pdf=False)
        change = synthetic.run()
        for record in change.records[::7]:
            if record.forward:
                record.forward["nfe"] += 7
        from crossbackend.compare import compare

        (folder / "diff.html").write_bytes(diff_page.render(diff(synthetic.full(), compare(change))))
        return {"index": folder / "index.html", "diff": folder / "diff.html"}

    @pytest.mark.parametrize("theme", ["light", "dark"])
    @pytest.mark.parametrize("name", ["index", "diff"])
    def test_the_rules_of_accessibility_hold(self, visit, others, name, theme):
        from axe_playwright_python.sync_playwright import Axe

        tab = visit(others[name], color_scheme=theme)
        tab.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        assert [(rule["id"], rule["nodes"][0]["html"]) for rule in Axe().run(tab).response["violations"]] == []

    @pytest.mark.parametrize("name", ["index", "diff"])
    def test_a_phone_does_not_scroll_sideways(self, visit, others, name):
        tab = visit(others[name], viewport={"width": 390, "height": 844}, is_mobile=True)
        assert tab.evaluate("document.documentElement.scrollWidth") == 390

    def test_a_link_leads_to_the_report(self, visit, others):
        tab = visit(others["index"])
        link = tab.get_by_role("link", name="statuses #1 é")
        address = link.evaluate("each => each.href")
        tab.goto(address)
        assert tab.locator("#shown").text_content() == "48 of 48 records"
        tab.asked[1:] = []


def test_the_page_as_it_stands_lets_nothing_load(chromium, written, tmp_path):
    """Even where something got into it that would."""
    asked = []

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, format, *args):  # noqa: A002 - the base class's name
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        origin = f"http://127.0.0.1:{server.server_port}"
        spoiled = (
            f'<img src="{origin}/image"><script>fetch("{origin}/script")</script><iframe src="{origin}/frame"></iframe>'
            f'<link rel="stylesheet" href="{origin}/style"><form action="{origin}/form"></form>'
        )
        text = written("full", ".html").read_text(encoding="utf-8")
        (tmp_path / "page.html").write_text(text.replace("</main>", spoiled + "</main>"), encoding="utf-8")
        tab = chromium.new_page()
        tab.set_default_timeout(180_000)
        said = []
        tab.on("console", lambda message: said.append(message.text))
        tab.goto((tmp_path / "page.html").as_uri())
        tab.wait_for_timeout(300)
        assert tab.locator("html.js").count() == 1  # our own script ran
        tab.close()
        server.shutdown()
    assert asked == []
    assert sum("Content Security Policy" in words for words in said) >= 4
