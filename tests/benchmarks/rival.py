"""The configurations of rivals that read a file.

Each is told what its documentation offers for delivery without loss, and for speed.
"""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.site import STREAM, Site
from tests.benchmarks.subscriber import SUBJECT

# max_undelivered_messages is what holds the PUBACK back until the output has written; no more come from mosquitto. Of
# batches of 100, 250, 500 and 1000 this was the fastest: others fill while one is written. async_publish awaits the
# PubAcks of a batch together, not one by one.
_TELEGRAF = """\
[agent]
  interval = "1s"
  flush_interval = "100ms"
  metric_batch_size = 250
  metric_buffer_limit = 100000
  omit_hostname = true
  skip_processors_after_aggregators = true
[[inputs.mqtt_consumer]]
  servers = ["tcp://127.0.0.1:{mqtt}"]
  topics = ["sensors/#"]
  topic_tag = ""
  qos = {qos}
  persistent_session = true
  client_id = "telegraf"
  max_undelivered_messages = 1000
  data_format = "value"
  data_type = "string"
[[outputs.nats]]
  servers = ["nats://127.0.0.1:{nats}"]
  subject = "plant.sensors.all"
  data_format = "template"
  template = '{{{{ .Field "value" }}}}'
  [outputs.nats.jetstream]
    name = "{stream}"
    subjects = ["{subject}"]
    async_publish = true
    disable_stream_creation = true
"""

_REDPANDA = """\
http: {{enabled: false}}
logger: {{level: WARN}}
input:
  mqtt:
    urls: ["tcp://127.0.0.1:{mqtt}"]
    client_id: redpanda-connect
    topics: ["sensors/#"]
    qos: {qos}
    clean_session: false
output:
  nats_jetstream:
    urls: ["nats://127.0.0.1:{nats}"]
    subject: plant.sensors.all
    max_in_flight: 1024
"""


def telegraf_config(site: Site) -> Path:
    """Write Telegraf's configuration."""
    return _write(site, "telegraf.conf", _TELEGRAF)


def redpanda_config(site: Site) -> Path:
    """Write Redpanda Connect's configuration, from its documentation alone: it was never run here."""
    return _write(site, "redpanda.yaml", _REDPANDA)


def _write(site: Site, name: str, text: str) -> Path:
    path = site.folder / name
    path.write_text(text.format(mqtt=site.mqtt, nats=site.nats, qos=site.job.qos, stream=STREAM, subject=SUBJECT))
    return path
