"""What a service gave up, in the hands of `tidegate dlq`."""

from __future__ import annotations

from pathlib import Path

from tests.app.helpers import tidegate
from tests.client.rig import Log, Task, rig, running, worker
from tests.support.checker import flushed
from tests.support.wait import eventually
from tidegate.client import PoisonError, subscribe

CONFIG = """\
gateway: test
nats: {{servers: ["{url}"]}}
dead_letters: {{stream: DEAD}}
bridges:
  - {{name: readings, mqtt: "sensors/{{device}}", nats: "plant.sensors.{{device}}"}}
"""


async def test_a_poison_event_is_listed_shown_and_replayed_after_a_fix(tmp_path: Path) -> None:
    """Other services get the event again, under the id they know."""
    config = tmp_path / "tidegate.yaml"
    async with rig(tmp_path) as r:
        config.write_text(CONFIG.format(url=r.url))

        async def dlq(command: str, *arguments: str) -> str:
            finished = await tidegate("dlq", command, "-c", config, *arguments)
            assert finished.status == 0, finished
            return finished.out

        seen: list[str] = []

        async def see(event: object) -> None:
            seen.append(event.id)  # type: ignore[attr-defined]

        broken, mended = Log(lambda *_: PoisonError("no such dish: haggis")), Log()
        sent = await r.client.publish("work.a", Task(number=4, name="haggis"))
        async with running(worker(r, broken)):
            await eventually(lambda: _count(r.left("DEAD"), 1))
        listed = (await dlq("ls")).splitlines()
        assert "workers  poison" in listed[1]
        assert listed[1].endswith("work.a")
        shown = await dlq("show", "1")
        assert "detail: no such dish: haggis" in shown
        assert "attempts: 1" in shown
        assert '"name":"haggis"' in shown
        async with running(worker(r, mended), subscribe(r.client, "work.>", Task, see)):
            await flushed(r.client.connection)
            assert await dlq("replay", "--bridge", "workers") == "replayed 1, failed 0\n"
            await eventually(lambda: mended.numbers == [4])
            await eventually(lambda: seen == [sent.id])
        assert await r.left("DEAD") == 0
        assert await r.left() == 0


async def _count(count: object, wanted: int) -> bool:
    return await count == wanted  # type: ignore[misc]
