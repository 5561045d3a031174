"""What a person sees in Dagster's UI: a headless browser drives the real one, on the demo's servers.

The browser is the system's Chromium or Chrome; without one the test is skipped. Screenshots of each page are in
``build/screenshots``, which git ignores; two of them, chosen by hand, are in ``docs/images``.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import psycopg2
import pytest
from playwright.sync_api import Locator, Page, ViewportSize, expect, sync_playwright

from xmin_assets.config import DEFAULT_CONFIG
from xmin_assets.demo import ServerPair, down, up
from xmin_assets.demo.changes import CHANGES
from xmin_assets.demo.cluster import free_port
from xmin_assets_tests.clusters import Workshop
from xmin_assets_tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
SCREENSHOTS = ROOT / "build/screenshots"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

SUFFIXES = ("_source_snapshot", "_csv_extract", "_staged_table", "")
RUN_SECONDS = 120
PAGE_SECONDS = 30
VIEWPORT: ViewportSize = {"width": 1280, "height": 760}

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no browser: install chromium or google-chrome"),
    pytest.mark.skipif(not (ROOT / "dagster.yaml").exists(), reason="installed without its project folder"),
    pytest.mark.timeout(400),
]


@pytest.fixture
def demo(workshop: Workshop) -> Iterator[tuple[Path, ServerPair]]:
    """A project's folder with the demo's servers up, as `xmin-assets demo up` leaves it."""
    folder = workshop.folder / "browser"
    folder.mkdir()
    folder.chmod(0o755)
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(ROOT / name, folder)
    yield folder, up(folder)
    down(folder, purge=True)


@pytest.fixture
def environment(demo: tuple[Path, ServerPair]) -> dict[str, str]:
    """A user's, with a home of their own: the spool is in there."""
    folder, _ = demo
    home = folder / "home"
    home.mkdir()
    return {**os.environ, "HOME": str(home), "PATH": f"{BIN}:{os.environ['PATH']}"}


@pytest.fixture
def address(demo: tuple[Path, ServerPair], environment: dict[str, str]) -> Iterator[str]:
    """Where `dagster dev` serves its UI. It is told its port and nothing else: the rest is in the folder."""
    folder, _ = demo
    address = f"http://127.0.0.1:{free_port()}"
    command = [BIN / "dagster", "dev", "--host", "127.0.0.1", "--port", address.rpartition(":")[2]]
    log = folder / "dagster.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        wait_until(lambda: process.poll() is not None or answers(address), seconds=PAGE_SECONDS * 2)
        assert process.poll() is None, log.read_text()
        yield address
    finally:
        # With all that it has started: servers, the daemon, runs. It would take its time over it, and nothing that
        # it may leave unfinished outlives the test.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def page() -> Iterator[Page]:
    expect.set_options(timeout=PAGE_SECONDS * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport=VIEWPORT, timezone_id="UTC")
        page.set_default_timeout(PAGE_SECONDS * 1000)
        yield page
        browser.close()


@dataclass(frozen=True)
class Dagster:
    """The UI, as far as this project's users click in it."""

    page: Page
    address: str

    def materialize_all(self, runs: int, ending: str = "Success") -> None:
        """Press the button over the asset graph, and wait until so many runs have ended like that."""
        self.page.goto(f"{self.address}/asset-groups")
        self.page.get_by_role("button", name="Materialize all").click()
        expect(self.page.get_by_text("Launched run")).to_be_visible()
        self.page.goto(f"{self.address}/runs")
        ended = self.page.get_by_text(ending, exact=True)
        expect(ended).to_have_count(runs, timeout=RUN_SECONDS * 1000)

    def open(self, asset: str, tab: str = "Overview") -> None:
        self.page.goto(f"{self.address}/assets/{asset}")
        self.page.get_by_role("tab", name=tab).click()

    def metadata(self, key: str) -> Locator:
        """The value of a key in the overview's table of metadata."""
        row = self.page.get_by_role("row", name=re.compile(rf"^xmin_assets\/{key} "))
        return row.get_by_role("cell").last

    def shoot(self, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png", animations="disabled")


def test_tables_are_synced_and_looked_at_in_the_browser(
    demo: tuple[Path, ServerPair], environment: dict[str, str], address: str, page: Page
) -> None:
    folder, pair = demo
    ui = Dagster(page, address)
    # The command has synced a table that Dagster has not run yet.
    sync = [BIN / "xmin-assets", "sync", "customers", "--config", ROOT / DEFAULT_CONFIG]
    subprocess.run(sync, cwd=folder, env=environment, check=True)
    page.goto(f"{address}/assets")
    page.get_by_role("button", name="Reload definitions").click()
    expect(page.get_by_text("Definitions reloaded")).to_be_visible()
    ui.open("public/customers")
    expect(page.get_by_text("Never materialized")).to_be_visible()
    expect(page.get_by_role("cell", name="customer_no", exact=True)).to_be_visible()
    expect(page.get_by_text("Key: region, customer_no")).to_be_visible()
    expect(page.get_by_text("Everybody who has ever ordered.")).to_be_visible()
    expect(page.get_by_role("cell", name="Unique within a region.")).to_be_visible()
    ui.shoot("before-a-run")

    ui.materialize_all(runs=1)
    ui.open("public/orders")
    expect(ui.metadata("mode")).to_have_text("full_sync")
    expect(ui.metadata("rows_inserted")).to_have_text("300000")

    transaction = change_orders(pair)
    ui.materialize_all(runs=2)
    page.goto(f"{address}/asset-groups")
    for table in ("customers", "orders", "securities"):
        expect(page.get_by_text(f"public__{table}").first).to_be_visible()
    expect(page.get_by_text("fetching statuses")).to_have_count(0)
    ui.shoot("asset-graph")

    ui.open("public/orders")
    expect(page.get_by_text("300,250", exact=True)).to_be_visible()
    expect(ui.metadata("mode")).to_have_text("xmin_incremental")
    expect(ui.metadata("max_xmin")).to_have_text(str(transaction))
    expect(ui.metadata("summary")).to_contain_text("500 inserted, 2,000 updated, 250 deleted")
    for key, rows in {"extracted": 2500, "inserted": 500, "updated": 2000, "deleted": 250}.items():
        expect(ui.metadata(f"rows_{key}")).to_have_text(str(rows))
    ui.shoot("merged-target")
    page.set_viewport_size({"width": 1280, "height": 940})
    page.get_by_text("xmin_assets/rows_extracted", exact=True).scroll_into_view_if_needed()
    ui.shoot("metadata")
    page.set_viewport_size(VIEWPORT)
    page.get_by_role("button", name="Plots").click()
    expect(page.locator("canvas").first).to_be_visible()
    page.get_by_text("xmin_assets/rows_extracted", exact=True).first.scroll_into_view_if_needed()
    ui.shoot("plots")

    # Seen at the first glance and without a reload: what the source's people say, and what identifies a row.
    ui.open("public/orders_csv_extract")
    expect(page.get_by_role("cell", name="In euros, with tax.")).to_be_visible()
    # The demo's source summarizes its WAL, and what lies together was changed.
    expect(ui.metadata("path")).to_contain_text(
        re.compile(r"^[\d,]+ of [\d,]+ blocks: those changed since WAL position")
    )
    expect(ui.metadata("blocks_changed")).to_be_visible()
    page.get_by_text("xmin_assets/path", exact=True).scroll_into_view_if_needed()
    ui.shoot("csv-extract")
    page.goto(f"{address}/locations/__repository__@xmin_assets/resources/replication_settings")
    expect(page.get_by_text("What the launchpad says of it holds for one run")).to_be_visible()
    ui.shoot("settings")

    page.set_viewport_size({"width": 2460, "height": 560})  # room for five assets in a row
    ui.open("public/orders", "Lineage")
    page.get_by_role("button", name="Upstream").click()
    page.get_by_role("button", name="All", exact=True).click()
    for suffix in SUFFIXES:
        expect(page.get_by_text(f"orders{suffix}", exact=True).last).to_be_visible()
    # In the path above, in the tab, and the two tables, the source's and the target's.
    expect(page.get_by_text("orders", exact=True)).to_have_count(4)
    expect(page.get_by_text("Loading...")).to_have_count(0)
    ui.shoot("lineage")
    page.set_viewport_size(VIEWPORT)

    checks = {
        "_source_snapshot": ["far_from_wraparound", "watermark_is_not_held_back", "columns_match_the_target"],
        "_staged_table": ["rows_are_complete", "key_identifies_rows"],
        "": ["target_equals_source"],
    }
    for suffix, names in checks.items():
        ui.open(f"public/orders{suffix}", "Checks")
        for name in names:
            expect(page.get_by_text(name, exact=True).first).to_be_visible()
        expect(page.get_by_text("Succeeded", exact=True)).to_have_count(len(names))
        ui.shoot(f"checks{suffix or '_merged_target'}")

    delete_most_customers(pair)
    ui.materialize_all(runs=1, ending="Failure")
    page.locator("a[href*='/runs/']").first.click()
    page.get_by_placeholder(re.compile("^Filter")).fill("step:public__customers")
    expect(page.get_by_text("the sync would delete 35000").first).to_be_visible()
    expect(page.get_by_text("xmin-assets sync public.customers --allow-mass-delete").first).to_be_visible()
    ui.shoot("failure")


def change_orders(pair: ServerPair) -> int:
    """Delete 250 orders, update 2000 others and insert 500; return the id of the transaction."""
    rows = {"delete": 250, "update": 2000, "insert": 500}
    with closing(psycopg2.connect(pair.app_url)) as connected, connected, connected.cursor() as cursor:
        cursor.execute("SELECT pg_current_xact_id()::text::int8")
        (found,) = cursor.fetchall()
        for kind, count in rows.items():
            (change,) = [c for c in CHANGES if (c.table, c.kind) == ("public.orders", kind)]
            assert change.apply(cursor, count) == count
        return int(found[0])


def delete_most_customers(pair: ServerPair) -> None:
    with closing(psycopg2.connect(pair.app_url)) as connected, connected, connected.cursor() as cursor:
        cursor.execute("DELETE FROM customers WHERE customer_no % 10 < 7")
        assert cursor.rowcount == 35000


def answers(address: str) -> bool:
    try:
        with urlopen(f"{address}/server_info", timeout=5) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False
