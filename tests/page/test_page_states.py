"""What the status page shows of each state, in a real browser, from documents such as `/status.json` gives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from playwright.async_api import Browser, Route

from tests.page.sample import NOW, Status, bridge, dead_letter, status
from tests.support.browser import Tab, needs_chromium, tab
from tests.support.wait import eventually
from tidegate.app.http import HttpServer, Response
from tidegate.app.page import status_page

pytestmark = [pytest.mark.asyncio(loop_scope="module"), needs_chromium, pytest.mark.slow]

AWAY = "connection refused (127.0.0.1:4222)"
NO_MQTT = {"up": False, "last_error": "connection refused (127.0.0.1:1883)"}
STILL = {"received": 0.0, "delivered": 0.0, "history": {"received": [0.0] * 60, "delivered": [0.0] * 60}}
HOLDING = bridge(
    state="spooling", blocked=AWAY, spooled=182_345, spool={"messages": 182_345, "bytes": 386_000_000},
    lag={"spool_oldest": 134.0, "oldest_unsettled": None}, last_error={"text": f"nats: {AWAY}", "time": NOW - 134},
)  # fmt: skip
NATS_AWAY: dict[str, Any] = {"nats": {"up": False, "last_error": AWAY}, "nats_away": AWAY}
COMMANDS = bridge(
    "commands", direction="down", mqtt_topic="devices/{device}/command", nats_subject="plant.commands.{device}",
    stream="COMMANDS", rates={"received": 3.2, "delivered": 3.2}, lag={"consumer_pending": 12},
)  # fmt: skip
DRAINING = bridge(state="draining", spooled=42_345, lag={"spool_oldest": 94.0})
KITCHEN = {"stream": "KITCHEN", "name": "kitchen", "pending": 12, "unsettled": 3, "problem": None}

STATES: dict[str, tuple[str, str, Status]] = {
    "well": ("ok", "All is well: 2 bridges deliver.", status(bridge(), COMMANDS, consumers=[KITCHEN])),
    "quiet": ("ok", "All is well, and quiet: the bridge is connected; nothing comes.",
              status(bridge(rates=STILL, in_flight=0))),
    "idle": ("off", "Idle: no bridge is configured.", status()),
    "holding": ("warn", "Holding: NATS is away; messages wait on the disk here.",
                status(HOLDING, **NATS_AWAY, spool={"bytes": 386_000_000})),
    "refused": ("warn", "Holding: NATS takes no messages; messages wait on the disk here.",
                status(HOLDING, nats_away="SENSORS is full")),
    "catching-up": ("busy", "Catching up: NATS is back, and readings empties the disk.", status(DRAINING)),
    "slow": ("warn", "Slow: readings waits for confirmations, with a full window.",
             status(bridge(in_flight=1000, lag={"oldest_unsettled": 34.0}))),
    "stuck": ("bad", "Stuck: MQTT is away; nothing goes through readings.",
              status(bridge(state="stuck", problem="mqtt: connection refused", mqtt=NO_MQTT), bridge("alarms"),
                     ready=False, problems=["readings: mqtt: connection refused"])),
    "stuck-down": ("bad", "Stuck: NATS is away; nothing goes through commands.",
                   status(HOLDING, {**COMMANDS, "state": "stuck", "problem": f"nats: {AWAY}"}, **NATS_AWAY,
                          ready=False, problems=[f"commands: nats: {AWAY}"])),
    "not-ready": ("bad", "Not ready: streams: SENSORS is not as configured",
                  status(bridge(), ready=False, problems=["streams: SENSORS is not as configured"])),
    "stalled": ("bad", "Stalled: messages wait though nothing is in their way.",
                status(bridge(), stalled="readings holds 14 messages")),
}  # fmt: skip


class Gateway:
    """Serves the page and a document."""

    def __init__(self, document: Status) -> None:
        self.document = document
        self.port = 0

    def _status(self, _accept: str) -> Response:
        return Response(200, "application/json", orjson.dumps(self.document))

    @asynccontextmanager
    async def served(self) -> AsyncIterator[Gateway]:
        """Serve; on the same port again the next time."""
        pages = {"/": lambda _accept: status_page(), "/status.json": self._status}
        async with HttpServer(("127.0.0.1", self.port), pages) as server:
            self.port = server.address[1]
            yield self


@asynccontextmanager
async def _shown(
    screen: Tab, document: Status, size: tuple[int, int] = (1280, 800), **more: Any
) -> AsyncIterator[None]:
    """Open the page over a document, and wait until it is shown; at the end nothing may have been complained of."""
    async with Gateway(document).served() as gateway:
        await screen.open(gateway.port, size, **more)
        await eventually(lambda: _shows(screen, "#fresh", "up to date"), "the page shows the document")
        yield
        assert screen.complaints == []
        assert {url.split("/")[2] for url in screen.requests} == {f"127.0.0.1:{gateway.port}"}


async def _shows(screen: Tab, selector: str, part: str) -> bool:
    return part in await screen.text(selector)


@pytest.mark.parametrize("name", STATES)
async def test_the_headline_says_the_state_in_words_colour_and_shape(screen: Tab, name: str, tmp_path: Path) -> None:
    kind, sentence, document = STATES[name]
    async with _shown(screen, document):
        assert await screen.text("h1") == sentence
        assert await screen.kind("#top") == kind
        assert sentence.split(":")[0] in await screen.page.title()
        await screen.keep(f"{name}-light", tmp_path)


@pytest.mark.parametrize("name", ["well", "holding", "stuck-down"])
async def test_it_follows_the_systems_dark_colours_and_fits_a_phone(screen: Tab, name: str, tmp_path: Path) -> None:
    async with _shown(screen, STATES[name][2], (390, 844), scheme="dark"):
        colour = await screen.page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        assert max(map(int, colour.removeprefix("rgb(").removesuffix(")").split(","))) < 64
        assert await screen.sideways() == 0
        await screen.keep(f"{name}-dark-phone", tmp_path)


async def test_where_it_is_stuck_is_told_hop_by_hop(screen: Tab) -> None:
    async with _shown(screen, STATES["holding"][2]):
        assert (await screen.kind("#hop-mqtt-up"), await screen.kind("#hop-nats-up")) == ("ok", "bad")
        assert "cut" in await screen.text("#hop-nats-up")
        assert AWAY in await screen.text("#nats-say")
        assert await screen.text("#behind") == "2 min 14 s"
        assert "on the disk" in await screen.text("#where")
        assert "368 MiB, 36\u00a0% of 1.0 GiB" in await screen.text("#basin")
    async with _shown(screen, STATES["stuck"][2]):
        assert (await screen.kind("#hop-mqtt-up"), await screen.kind("#hop-nats-up")) == ("bad", "ok")
        assert "1 of 2 cut" in await screen.text("#hop-mqtt-up")
        assert await screen.text("#behind") == "not known"


async def test_the_way_down_and_what_services_have_yet_to_read_are_drawn(screen: Tab) -> None:
    own = {**KITCHEN, "stream": "COMMANDS", "name": "tidegate-plant-1-commands", "pending": 1000}
    async with _shown(screen, status(bridge(), COMMANDS, consumers=[KITCHEN, own])):
        assert "3.2 /s back" in await screen.text("#hop-mqtt-down")
        assert "12 waiting" in await screen.text("#hop-nats-down")
        assert "12 waiting" in await screen.text("#hop-services-up"), "a bridge's own consumer is no service"
        assert "kitchen" in await screen.text("#services")
        assert "KITCHEN" in await screen.text("#consumer-rows")


async def test_a_bridge_is_a_row_with_its_numbers_and_the_exact_ones_in_titles(screen: Tab) -> None:
    shown = bridge(dead_lettered={"decode_failed": 2, "schema_failed": 5}, dropped={"spool_full": 12_345})
    async with _shown(screen, status(shown, spool={"bytes": 0})):
        row = await screen.text("tbody.card")
        for part in ("readings", "delivering", "812/s in, 810/s out", "14 of 1,000", "1.23M", "12.3k", "spool_full"):
            assert part in row, part
        assert "schema_failed 5, decode_failed 2" in row
        assert await screen.page.get_by_title("1,234,548").count() == 1
        assert await screen.page.get_by_title("12,345", exact=True).count() == 1
        assert "12.3k messages given up" in await screen.text("#notes")
        assert "one replica" not in await screen.text("tbody.card")
        await screen.page.locator("summary").first.press("Enter")
        await eventually(lambda: _shows(screen, "tbody.card", "one replica"), "what weakens the promise unfolds")
        await eventually(lambda: _shows(screen, "tbody.card", "1,234,567"), "and every number")


async def test_text_of_devices_and_of_the_configuration_is_text(screen: Tab) -> None:
    image, end = "<img src=x onerror=document.title='owned'>", "</script><script>document.title='owned'</script>"
    letters = [dead_letter(topic=f"a/{image}", detail=end, correlation_id=f'"{image}', reason="toString")]
    document = status(
        bridge(f"{image}{end}", mqtt_topic=image, nats_subject=end, problem=f"mqtt: {image}", state="stuck",
               last_error={"text": end, "time": NOW}, dead_lettered={image: 1, "constructor": 1},
               guarantee={"promise": image, "weaknesses": [end]}),
        gateway=image, dead_letters=letters, ready=False, problems=[image], nats={"url": end},
        consumers=[{**KITCHEN, "name": image, "problem": end}],
    )  # fmt: skip
    async with _shown(screen, document):
        assert await screen.page.locator("img").count() == 0
        assert await screen.page.locator("script").count() == 1
        for place in ("#gateway", "tbody.card", "#dead-rows", "#consumer-rows", "#notes"):
            assert image in await screen.text(place), place
        assert end in await screen.text("#dead-rows")
        assert "Stuck" in await screen.page.title()


async def test_at_360_pixels_nothing_scrolls_sideways(screen: Tab, tmp_path: Path) -> None:
    long = "x" * 200
    document = status(
        bridge(long[:64], mqtt_topic=long, nats_subject=long, dead_lettered={"properties_invalid": 7, "a_b": 3}),
        {**COMMANDS, "state": "stuck", "problem": long, "last_error": {"text": long, "time": NOW - 5}},
        gateway=long[:64], ready=False, problems=[long], dead_letters=[dead_letter(topic=long, detail=long)],
        consumers=[{**KITCHEN, "name": long[:64]}],
    )  # fmt: skip
    async with _shown(screen, document, (360, 740)):
        for summary in await screen.page.locator("summary").all():
            await summary.click()
        assert await screen.sideways() == 0
        assert await screen.page.get_by_role("row").count() > 3, "cards are rows of a table still"
        await screen.keep("long-phone", tmp_path)


@pytest.mark.parametrize("width", [1920, 1280, 1000, 980, 640])
async def test_no_column_is_cut_off(screen: Tab, width: int) -> None:
    worst = bridge(
        "a-name-of-some-length", dead_lettered={"properties_invalid": 12_345, "schema_failed": 3_000}, in_flight=1000
    )
    async with _shown(
        screen, status(worst | {"spooled": 182_345}, HOLDING, COMMANDS, consumers=[KITCHEN]), (width, 800)
    ):
        script = "[...document.querySelectorAll('.panel')].map((panel) => panel.scrollWidth - panel.clientWidth)"
        assert set(await screen.page.evaluate(script)) == {0}
        assert await screen.sideways() == 0
        script = (
            "[...document.querySelectorAll('.say span, .node p')].filter((e) => e.scrollWidth > e.clientWidth).length"
        )
        assert await screen.page.evaluate(script) == 0, "the drawing has room for its words"


async def test_a_hundred_bridges_are_shown_those_in_trouble_first(screen: Tab, tmp_path: Path) -> None:
    bridges = [bridge(f"line-{number:02}") for number in range(100)]
    bridges[57] |= {"state": "stuck", "problem": "spool: no space left on device"}
    bridges[80] |= {"state": "draining"}
    async with _shown(screen, status(*bridges, ready=False, problems=["line-57: spool: …"])):
        names = await screen.page.locator("tbody.card .name").all_inner_texts()
        assert names[:4] == ["line-57", "line-80", "line-00", "line-01"]
        assert len(names) == 100
        assert await screen.text("#bridges-say") == "98 delivering, 1 catching up, 1 stuck"


async def test_a_bridge_that_is_configured_no_more_disappears(screen: Tab) -> None:
    async with Gateway(status(bridge(), bridge("alarms"))).served() as gateway:
        await screen.open(gateway.port)
        await eventually(lambda: _shows(screen, "#bridges-say", "2 delivering"))
        gateway.document = status(bridge("alarms"))
        await eventually(lambda: _shows(screen, "#bridges-say", "1 delivering"))
        assert await screen.page.locator("tbody.card .name").all_inner_texts() == ["alarms"]


async def test_a_gateway_that_does_not_answer_is_told_with_since_when(screen: Tab, tmp_path: Path) -> None:
    gateway = Gateway(status(bridge()))
    async with gateway.served():
        await screen.open(gateway.port)
        await eventually(lambda: _shows(screen, "h1", "All is well"))
    await eventually(lambda: _shows(screen, "h1", "No answer: plant-1 has not answered since"))
    assert await screen.kind("#top") == "bad"
    assert "No answer" in await screen.page.title()
    assert await screen.page.locator("body.stale").count() == 1
    assert "1.23M" in await screen.text("tbody.card"), "what was known last is still there"
    await screen.keep("no-answer", tmp_path)
    async with gateway.served():
        await eventually(lambda: _shows(screen, "h1", "All is well"))
        assert await screen.page.locator("body.stale").count() == 0


async def test_it_never_asks_twice_at_once_and_seldom_in_a_hidden_tab(browser: Browser) -> None:
    async with Gateway(status(bridge())).served() as gateway, tab(browser) as screen:
        held: list[Route] = []
        await screen.page.route("**/status.json", lambda route: held.append(route))
        await screen.page.clock.install()
        # The patience is not of that clock; a slow machine is not what is tested here.
        await screen.page.add_init_script("AbortSignal.timeout = () => new AbortController().signal")
        await screen.open(gateway.port)
        await eventually(lambda: len(held) == 1)
        await screen.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        await screen.page.clock.run_for(4_000)
        assert len(held) == 1, "the first is not answered yet"
        await screen.page.evaluate("Object.defineProperty(document, 'hidden', {value: true})")
        await held[0].continue_()
        await eventually(lambda: _shows(screen, "h1", "All is well"))
        await screen.page.clock.run_for(9_000)
        assert len(held) == 1
        await screen.page.clock.run_for(2_000)
        await eventually(lambda: len(held) == 2)
        await held[1].abort()


async def test_it_is_made_of_landmarks_tables_with_headers_and_one_live_region(screen: Tab) -> None:
    document = status(bridge(), consumers=[KITCHEN], dead_letters=[dead_letter()])
    async with _shown(screen, document):
        page = screen.page
        assert await page.get_by_role("main").count() == 1
        assert await page.get_by_role("heading", level=1).count() == 1
        for name in ("Bridges", "Consumers", "Last dead letters"):
            assert await page.get_by_role("region", name=name).count() == 1
            assert await page.get_by_role("table", name=name).get_by_role("columnheader").count() >= 5
        assert await page.locator("[aria-live]").count() == 1
        assert await page.locator("h1[aria-live=polite]").count() == 1


@pytest.mark.parametrize(("motion", "moves"), [("no-preference", "flow"), ("reduce", "none")])
async def test_nothing_moves_for_who_asks_for_less_motion(screen: Tab, motion: Any, moves: str) -> None:
    async with _shown(screen, status(bridge()), motion=motion):
        script = "getComputedStyle(document.querySelector('.pipe'), '::before').animationName"
        assert await screen.page.evaluate(script) == moves
