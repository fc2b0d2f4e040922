"""The page in a real browser: switches, sorting, filtering, CSV, and no request leaves."""

import html as entities
import http.server
import json
import re
import shutil
import subprocess
import threading

import pytest

from crossbackend.report import html
from tests.report import synthetic

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--virtual-time-budget=4000",
)  # fmt: skip
PROBE = """
const out = {errors: window.seenErrors || []};
const rows = () => Array.from(document.querySelectorAll("#all tbody tr")).filter((row) => !row.hidden);
const marks = (query) => Array.from(document.querySelectorAll(query)).filter((m) => m.style.display !== "none").length;
const change = (box) => { box.checked = !box.checked; box.dispatchEvent(new Event("change")); };
out.rows = rows().length;
out.tools = !document.querySelector(".tools").hidden;
document.querySelector('select[data-column="1"]').value = "scipy";
document.querySelector('select[data-column="1"]').dispatchEvent(new Event("change"));
out.filtered = rows().length;
document.getElementById("search").value = "timeout";
document.getElementById("search").dispatchEvent(new Event("input"));
out.searched = rows().length;
let csv = "";
URL.createObjectURL = (blob) => { out.csvType = blob.type; csv = blob; return "#"; };
document.getElementById("csv").click();
document.getElementById("search").value = "";
document.getElementById("search").dispatchEvent(new Event("input"));
const heads = document.querySelectorAll("#all thead th");
heads[6].querySelector("button").click();
out.sort = heads[6].getAttribute("aria-sort");
out.first = rows()[0].cells[6].textContent;
heads[6].querySelector("button").click();
out.last = rows()[0].cells[6].textContent;
out.matched = marks('.mark[data-s="matched"]');
change(document.querySelector('[data-switch="s"][value="matched"]'));
out.matchedOn = marks('.mark[data-s="matched"]');
change(document.querySelector('[data-switch="b"][value="0"]'));
out.backendOff = marks('.mark[data-b="0"]');
out.synced = document.querySelectorAll('[data-switch="b"][value="0"]:checked').length;
const low = (drawing) => drawing.getBoundingClientRect().height < 50;
out.flat = Array.from(document.querySelectorAll("svg.chart")).filter(low).length;
out.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
csv.text().then((text) => {
  out.csv = text;
  const node = document.createElement("pre");
  node.id = "probe";
  node.textContent = JSON.stringify(out);
  document.body.append(node);
});
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)"),
]


def chromium(page, tmp_path, *flags):
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *flags, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.fixture(scope="module")
def page():
    return html.render(synthetic.shown("full")).decode()


def test_switches_sorting_filtering_and_csv(page, tmp_path):
    probed = re.sub(r"script-src '[^']*'", "script-src 'unsafe-inline'", page)
    listen = "<script>window.seenErrors = []; addEventListener('error', (e) => seenErrors.push(e.message));</script>"
    probed = probed.replace("<style>", listen + "<style>", 1).replace("</body>", f"<script>{PROBE}</script></body>")
    (tmp_path / "page.html").write_text(probed, encoding="utf-8")
    dom = chromium(tmp_path / "page.html", tmp_path, "--dump-dom", "--window-size=1280,900")
    out = json.loads(entities.unescape(re.findall(r'<pre id="probe">(.*?)</pre>', dom, re.DOTALL)[0]))
    assert out["errors"] == []
    assert (out["rows"], out["tools"], out["filtered"], out["searched"]) == (360, True, 120, 1)
    assert out["sort"] == "ascending"
    errors = sorted(r.error["all"] for r in synthetic.full().records if r.backend == "scipy" and r.error["all"])
    from crossbackend.report.formats import sci

    assert (out["first"], out["last"]) == (sci(errors[0]), sci(errors[-1]))
    assert (out["matched"], out["backendOff"], out["synced"], out["flat"]) == (0, 0, 0, 0)
    assert out["matchedOn"] > 0
    assert out["wide"] == 0
    lines = out["csv"].strip().split("\r\n")
    assert len(lines) == 2
    assert lines[1].startswith("neural_ode,scipy,native,seminorm,1e-10,")


def test_the_page_as_it_stands_makes_no_request(page, tmp_path):
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
        )
        (tmp_path / "page.html").write_text(page.replace("</main>", spoiled + "</main>"), encoding="utf-8")
        dom = chromium(tmp_path / "page.html", tmp_path, "--dump-dom")
        server.shutdown()
    assert 'class="js"' in dom  # our own script ran
    assert asked == []


def test_a_phone_shows_the_page_without_scrolling_sideways(page, tmp_path):
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    (tmp_path / "phone.html").write_text(
        '<iframe id="f" src="page.html" style="width:390px;height:800px"></iframe>', encoding="utf-8"
    )
    measure = "document.title = f.contentDocument.documentElement.scrollWidth"
    script = f"<script>addEventListener('load', () => {{ {measure} }})</script>"
    with (tmp_path / "phone.html").open("a", encoding="utf-8") as out:
        out.write(script)
    dom = chromium(tmp_path / "phone.html", tmp_path, "--dump-dom", "--allow-file-access-from-files")
    assert re.findall(r"<title>(\d+)</title>", dom) == ["390"]
