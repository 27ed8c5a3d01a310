"""What `tidegate check` warns of: a configuration that is right by its rules, and will hardly do what is meant."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import combinations, product
from pathlib import Path

from tidegate.app.config import DAY, Bridge, Config
from tidegate.app.config_file import variables
from tidegate.app.guarantee import bucket_losses, losses
from tidegate.app.options import stream_specs
from tidegate.core import common_topic, is_covered, matches, overlap, unshared

_ENOUGH = 7 * DAY
_MAX_PARTS = 1024
_CHANGING = re.compile(r"(?:^|_)(?:HOSTNAME|POD|CONTAINER|RANDOM|UUID|PID)(?:_?(?:ID|NAME|UID))?(?:_|$)", re.IGNORECASE)
"""The names of variables that have another value after each start."""

_CAPTURE = re.compile(r"\bcapture\(\W*(\w+)")
_SPARKPLUG = "spBv1.0/{group}/{type}/{node}/#"


def warnings(config: Config, path: Path) -> Iterator[str]:
    """Yield a sentence for each, with what to do. path: of the file, for what loading has replaced. Raises ConfigError
    if the file can't be read any more."""
    yield from _bridges_that_overlap(config)
    yield from _subjects_without_stream(config)
    yield from _streams_that_overlap(config)
    yield from _streams_that_lose(config)
    yield from _buckets_that_miss(config)
    yield from _sessions_left_behind(config, path)
    for bridge in config.up_bridges:
        yield from _options_without_effect(bridge)
        yield from _texts_in_wrong_quotes(bridge)
        if bridge.decoder_name == "sparkplug_b":  # whose data say which group, node and device they are of
            yield from _births_that_are_missed(bridge)
        else:
            yield from _topics_that_share_a_subject(bridge)


def _bridges_that_overlap(config: Config) -> Iterator[str]:
    """One sentence for a bridge that overlaps with many."""
    pairs = []
    for one, other in combinations(config.up_bridges, 2):
        filters = one.mapping().topic_filter, other.mapping().topic_filter
        if filters[0] == filters[1] and filters[0].startswith("$share/"):
            yield (
                f"bridges {one.name} and {other.name} are members of one shared subscription, {filters[0]}: "
                "each message goes to only one of them; give one of them another group if both are to have it"
            )
        elif topic := common_topic(unshared(filters[0]), unshared(filters[1])):
            pairs.append((one.name, other.name, topic))
    while pairs:
        ((busiest, _),) = Counter(name for one, other, _ in pairs for name in (one, other)).most_common(1)
        group = [pair for pair in pairs if busiest in pair[:2]]
        pairs = [pair for pair in pairs if pair not in group]
        others = [other if one == busiest else one for one, other, _ in group]
        yield (
            f"bridge {busiest} takes topics of {_and(others)} too, as {group[0][2]!r}: each delivers such a message, "
            "under an id of its own; unless that is meant, let their patterns exclude each other"
        )


def _subjects_without_stream(config: Config) -> Iterator[str]:
    stored = [subject for stream in config.streams for subject in stream.subjects]
    for bridge in config.up_bridges:
        if bridge.deliver == "core":
            continue
        mapping = bridge.mapping()
        if all(is_covered(one, stored) for one in mapping.subject_filters(_MAX_PARTS)):
            continue
        subjects = mapping.subject_filter
        parts = [stream.name for stream in config.streams if any(overlap(subjects, one) for one in stream.subjects)]
        if parts:
            yield (
                f"bridge {bridge.name}: only a part of {subjects} is stored in this file, by {_and(parts)}; unless "
                "another stream has the rest, its messages wait and fill the spool; add it to the stream's subjects"
            )
        else:
            yield (
                f"bridge {bridge.name}: no stream in this file stores {subjects}; unless there is another one, nothing "
                "is delivered, and messages wait and fill the spool; add one to streams"
            )
    yield from _subjects_without_one_stream(config)
    dead = config.dead_letters
    if any(stream.name == dead.stream for stream in config.streams):
        for name in [bridge.name for bridge in config.bridges]:
            if not is_covered(subject := dead.subject_for(name), stored):
                yield (
                    f"bridge {name}: no stream in this file stores its dead letters, {subject}, and so they "
                    f"wait and fill the spool; add {dead.subject_for('*')} to the subjects of {dead.stream}"
                )


def _subjects_without_one_stream(config: Config) -> Iterator[str]:
    """A consumer is of one stream."""
    for bridge in config.down_bridges:
        subjects = bridge.mapping().subject_filter
        found = [
            spec.name for spec in stream_specs(config) if any(overlap(subjects, subject) for subject in spec.subjects)
        ]
        if bridge.deliver == "jetstream" and not found:
            yield (
                f"bridge {bridge.name}: no stream in this file stores {subjects}; unless there is another one, nothing "
                "comes; add one to streams, or use deliver: core"
            )
        elif bridge.deliver == "jetstream" and len(found) > 1:
            yield f"bridge {bridge.name}: {subjects} is stored by {_and(found)}; use a bridge for each of them"


def _streams_that_overlap(config: Config) -> Iterator[str]:
    wanted = [(spec.name, subject) for spec in stream_specs(config) for subject in spec.subjects]
    for (name, subject), (other_name, other) in combinations(wanted, 2):
        if overlap(subject, other):
            where = f"stream {name} has" if name == other_name else f"streams {name} and {other_name} have"
            yield (
                f"{where} subjects that overlap, {subject} and {other}, and NATS refuses that; let them exclude each "
                "other"
            )


def _streams_that_lose(config: Config) -> Iterator[str]:
    for stream in stream_specs(config):
        for sentence in losses(stream, enough=config.spool.max_age or _ENOUGH):
            yield f"stream {sentence}"
        if stream.max_age is not None and stream.duplicate_window > stream.max_age:
            yield (
                f"stream {stream.name} has a duplicate_window of {stream.duplicate_window:g} s, longer than its "
                f"max_age of {stream.max_age:g} s, and NATS refuses that; set duplicate_window: {stream.max_age:g}s"
            )


def _buckets_that_miss(config: Config) -> Iterator[str]:
    for bridge, stream in product(config.up_bridges, stream_specs(config)):
        if any(overlap(bridge.mapping().subject_filter, one) for one in stream.subjects):
            for sentence in bucket_losses(bridge, stream):
                yield f"bridge {bridge.name}: {sentence}"


def _sessions_left_behind(config: Config, path: Path) -> Iterator[str]:
    if not config.mqtt.session_expiry or not any(bridge.qos for bridge in config.up_bridges):
        return
    place = ("gateway",) if config.mqtt.client_id is None else ("mqtt", "client_id")
    for name in variables(path, *place):
        if _CHANGING.search(name):
            yield (
                f"the client ids come from ${{{name}}} in {'.'.join(place)}: if that changes with a start, the broker "
                "holds messages for the old session, which nobody takes up; use a name that stays"
            )


def _topics_that_share_a_subject(bridge: Bridge) -> Iterator[str]:
    """A level that a bridge uses elsewhere, as in its data, is not lost."""
    mapping = bridge.mapping()
    expressions = (bridge.each, bridge.filter, bridge.select, bridge.time, bridge.correlation, bridge.causation)
    texts = " ".join((bridge.nats, bridge.type, bridge.source or "", *bridge.attributes.values()))
    used = {name for name in mapping.names if re.search(rf"{{[^}}]*\b{name}\b", texts)}
    used |= {name for text in expressions for name in _CAPTURE.findall(text or "")}
    topic_filter = unshared(mapping.topic_filter)
    levels = (common_topic(topic_filter, topic_filter) or "").split("/")
    for number, level in enumerate(unshared(bridge.mqtt).split("/")):
        name = level.strip("{.}") if level.startswith("{") else None
        if name not in used and (name or level in ("+", "#")):
            topic, other = "/".join(levels), "/".join((*levels[:number], "y", *levels[number + 1 :]))
            yield (
                f"bridge {bridge.name}: {topic!r} and {other!r} both become {mapping.subject(topic)}, and two devices "
                "may look like one; unless that is meant, name the level, as {device}, and use it in nats"
            )
            return


def _options_without_effect(bridge: Bridge) -> Iterator[str]:
    if bridge.time is None:
        for name in sorted({"time_unit", "time_zone"} & bridge.model_fields_set):
            yield f"bridge {bridge.name}: {name} has no effect without time, which says where the device's time is"


def _texts_in_wrong_quotes(bridge: Bridge) -> Iterator[str]:
    for name, expression in bridge.expressions.items():
        if expression.compares_members:
            yield (
                f"bridge {bridge.name}: {name} compares two members of the payload with each other; if one is a text, "
                "JMESPath wants it in single quotes, as quality == 'good'"
            )


def _births_that_are_missed(bridge: Bridge) -> Iterator[str]:
    """A Sparkplug node names its metrics in its birth alone (Sparkplug 3.0 §6.4.6, §6.4.19)."""
    topic_filter = unshared(bridge.mapping().topic_filter)
    if bridge.mqtt.startswith("$share/"):
        yield (
            f"bridge {bridge.name}: a shared subscription gives births to one member and their data to another, which "
            f"can't name the metrics; use a pattern of its own, as {_SPARKPLUG}"
        )
    for kind, births in (("NDATA/+", ("NBIRTH",)), ("DDATA/+/+", ("NBIRTH", "DBIRTH"))):
        topic = common_topic(topic_filter, f"spBv1.0/+/{kind}")
        if topic is None:
            continue
        _, group, _, node, *device = topic.split("/")
        wanted = ["/".join(("spBv1.0", group, birth, node, *(device if birth[0] == "D" else ()))) for birth in births]
        if missed := [repr(birth) for birth in wanted if not matches(topic_filter, birth)]:
            yield (
                f"bridge {bridge.name}: it takes {topic!r} and not {_and(missed)}, which names its metrics; use a "
                f"pattern that takes both, as {_SPARKPLUG}"
            )


def _and(names: list[str]) -> str:
    return " and ".join((", ".join(names[:-1]), names[-1])) if len(names) > 1 else names[0]
