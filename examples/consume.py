#!/usr/bin/env python3
"""Reads Daybook's topic with a stock Kafka client and the CloudEvents SDK.

    python3 -m venv venv && venv/bin/pip install -r examples/requirements.txt
    venv/bin/python examples/consume.py --brokers "$KAFKA_BROKERS" --from-start --exit-at-end

Prints one JSON object a line. The topic may hold a record twice, never with a gap: what has a
position that was already seen is left out, and a position that is missing ends the program.
schemas/asyncapi.json describes records and values.
"""

import argparse
import json
import signal
import sys

from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka_event
from confluent_kafka import Consumer, KafkaError, KafkaException


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--brokers", default="127.0.0.1:9092", help="default: %(default)s")
    parser.add_argument("--topic", default="daybook.events", help="default: %(default)s")
    parser.add_argument("--group", default="consume-py", help="default: %(default)s")
    parser.add_argument("--from-start", action="store_true", help="everything, not what is new")
    parser.add_argument("--exit-at-end", action="store_true", help="do not wait for more")
    parser.add_argument("--type", action="append", default=[], help="only this event type")
    return parser.parse_args()


def event_of(message):
    """A record as a CloudEvent."""
    headers = {name: value for name, value in message.headers() or []}
    return from_kafka_event(KafkaMessage(headers, message.key(), message.value()))


class Positions:
    """The last position seen of each tenant."""

    def __init__(self):
        self.last = {}

    def is_new(self, event):
        tenant, position = event.get_extension("tenant"), int(event.get_extension("position"))
        # Where the first record that is read stands is where this reader begins.
        last = self.last.get(tenant, position - 1)
        if position <= last:
            return False
        if position != last + 1:
            raise SystemExit(f"tenant {tenant} goes from position {last} to {position}")
        self.last[tenant] = position
        return True


def consume(options):
    consumer = Consumer({
        "bootstrap.servers": options.brokers,
        "group.id": options.group,
        "auto.offset.reset": "earliest" if options.from_start else "latest",
        "enable.auto.commit": not options.from_start,
        "enable.partition.eof": True,
    })

    def assigned(_consumer, partitions):
        if options.from_start:
            for partition in partitions:
                partition.offset = 0
            consumer.assign(partitions)

    consumer.subscribe([options.topic], on_assign=assigned)
    positions, at_end, printed = Positions(), set(), 0
    try:
        while True:
            message = consumer.poll(1.0)
            if message is None:
                continue
            if message.error():
                if message.error().code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(message.error())
                at_end.add(message.partition())
                mine = {partition.partition for partition in consumer.assignment()}
                if options.exit_at_end and mine <= at_end:
                    return printed
                continue
            at_end.discard(message.partition())
            event = event_of(message)
            if not positions.is_new(event):
                continue
            if options.type and event.get_type() not in options.type:
                continue
            printed += 1
            print(json.dumps({
                "id": event.get_id(),
                "type": event.get_type(),
                "stream": event.get_subject(),
                "time": event.get_time().isoformat(),
                "data": event.get_data(),
            }), flush=True)
    finally:
        consumer.close()


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        printed = consume(arguments())
        print(f"{printed} events", file=sys.stderr)
    except (KeyboardInterrupt, BrokenPipeError):
        pass


if __name__ == "__main__":
    main()
