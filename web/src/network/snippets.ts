/** Code to paste that sends a first reading, with a sensor's real address and key. */

export interface Address {
  /** Where HTTP is answered, without a slash at the end. */
  url: string;
  /** Where MQTT is listened; null: nowhere. */
  host: string | null;
  port: number | null;
}

export interface Snippet {
  name: "curl" | "mosquitto_pub" | "Python" | "Arduino" | "MicroPython";
  code: string;
}

/** Return the code by the language; names and keys hold nothing that a shell or language reads. */
export function snippets({ url, host, port }: Address, device: string, key: string): Snippet[] {
  const overHttp: Snippet[] = [
    {
      name: "curl",
      code: `curl ${url}/ingest \\
  -H 'X-API-Key: ${key}' \\
  -H 'Content-Type: application/json' \\
  -d '{"temperature": 22.5}'`,
    },
    {
      name: "Python",
      code: `import json
import time
import urllib.request

URL = "${url}/ingest"
HEADERS = {"X-API-Key": "${key}", "Content-Type": "application/json"}

while True:
    # The time makes a reading that is sent again the same one: it is stored once.
    reading = {"temperature": 22.5, "timestamp": time.time()}
    body = json.dumps(reading).encode()
    while True:
        try:
            request = urllib.request.Request(URL, body, HEADERS)
            urllib.request.urlopen(request, timeout=10).close()
            break
        except OSError as error:
            print("sending again in 5 seconds:", error)
            time.sleep(5)
    time.sleep(10)`,
    },
  ];
  if (host === null || port === null) return overHttp;
  const topic = `measurements/${device}`;
  return [
    ...overHttp.slice(0, 1),
    {
      name: "mosquitto_pub",
      code: `mosquitto_pub -h ${host} -p ${port} -u ${device} -P ${key} \\
  -q 1 -t ${topic} -m '{"temperature": 22.5}'`,
    },
    ...overHttp.slice(1),
    {
      name: "Arduino",
      code: `// Library "MQTT" by Joel Gaehwiler: its publish waits for the acknowledgment (QoS 1).
// PubSubClient publishes with QoS 0 alone: what is sent while the link is bad is lost.
#include <WiFi.h>
#include <MQTT.h>

WiFiClient net;
MQTTClient client(512);

void connect() {
  while (WiFi.status() != WL_CONNECTED) delay(500);
  while (!client.connect("${device}", "${device}", "${key}")) delay(1000);
}

void setup() {
  WiFi.begin("YOUR NETWORK", "ITS PASSWORD");
  client.begin("${host}", ${port}, net);
}

void loop() {
  client.loop();
  if (!client.connected()) connect();
  String reading = String("{\\"temperature\\": ") + 22.5 + "}";
  // Not acknowledged: it is sent again. With a "timestamp" it is stored once all the same.
  while (!client.publish("${topic}", reading, false, 1)) connect();
  delay(10000);
}`,
    },
    {
      name: "MicroPython",
      code: `import json
import time
from umqtt.simple import MQTTClient

client = MQTTClient("${device}", "${host}", ${port}, "${device}", "${key}", keepalive=60)
client.connect()

while True:
    reading = json.dumps({"temperature": 22.5})
    # QoS 1: it returns when the server has stored it.
    client.publish("${topic}", reading, qos=1)
    time.sleep(10)`,
    },
  ];
}
