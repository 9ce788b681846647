"""Send readings to Heliograph over MQTT and wait until each is on the server's disk.

    pip install paho-mqtt
    python publish.py --device my-first-sensor --key KEY

The acknowledgment (QoS 1) comes after the commit: what this program counts is stored.
"""

import argparse
import json
import queue
import random
import time

from paho.mqtt import client as mqtt
from paho.mqtt.enums import CallbackAPIVersion


def parse_arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--device", required=True, help="device_id or UUID")
    parser.add_argument("--key", required=True, help="the device's key")
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--interval", type=float, default=1.0, help="seconds")
    return parser.parse_args()


def main() -> None:
    """Publish readings, each with its own time, so that a repeat is recognised."""
    arguments = parse_arguments()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.username_pw_set(arguments.device, arguments.key)

    answers, outcomes = queue.SimpleQueue(), queue.SimpleQueue()
    client.on_connect = lambda _client, _data, _flags, reason, _more: answers.put(reason)
    client.on_publish = lambda _client, _data, _id, reason, _more: outcomes.put(reason)
    client.connect(arguments.host, arguments.port)
    client.loop_start()
    if (answer := answers.get(timeout=10)).is_failure:
        raise SystemExit(f"the server refused: {answer}")
    stored = 0
    for number in range(arguments.count):
        reading = {
            "timestamp": time.time(),
            "value": {"temperature": round(21 + random.gauss(0, 0.2), 2), "number": number},
        }
        client.publish(f"measurements/{arguments.device}", json.dumps(reading), qos=1)
        if (outcome := outcomes.get(timeout=30)).is_failure:
            print(f"reading {number} was rejected: {outcome}")
        else:
            stored += 1
        time.sleep(arguments.interval)
    client.disconnect()
    client.loop_stop()
    print(f"{stored} of {arguments.count} readings are stored")


if __name__ == "__main__":
    main()
