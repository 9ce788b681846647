// Sends the chip's own readings to Heliograph once a second, with the time of the network.
//
// For an ESP32, with the library PubSubClient (Library Manager: "PubSubClient" by Nick O'Leary).
// Register the device first: heliograph device create my-first-sensor

#include <PubSubClient.h>
#include <WiFi.h>
#include <sys/time.h>

const char *WIFI_NAME = "your network";
const char *WIFI_PASSWORD = "its password";
const char *SERVER = "192.168.1.10";  // the machine on which Heliograph runs
const uint16_t PORT = 1883;
const char *DEVICE_ID = "my-first-sensor";
const char *DEVICE_KEY = "the key that was printed when you registered it";

const unsigned long INTERVAL_MS = 1000;
// A clock before 2001-09-09 has not been set yet; the server takes such times for none.
const time_t EARLIEST = 1000000000;

WiFiClient network;
PubSubClient mqtt(network);
String measurements = String("measurements/") + DEVICE_ID;
String configurations = String("configurations/") + DEVICE_ID;
String status = String("status/") + DEVICE_ID;
unsigned long lastSent = 0;

void received(char *topic, byte *payload, unsigned int length) {
  Serial.printf("%s: %.*s\n", topic, (int)length, (const char *)payload);
}

void connectToServer() {
  while (!mqtt.connected()) {
    // The last will: what the server is told if this device vanishes.
    if (mqtt.connect(DEVICE_ID, DEVICE_ID, DEVICE_KEY, status.c_str(), 1, true, "offline")) {
      mqtt.publish(status.c_str(), "online", true);
      mqtt.subscribe(configurations.c_str(), 1);
    } else {
      Serial.printf("not connected, state %d (5: wrong key)\n", mqtt.state());
      delay(2000);
    }
  }
}

void setup() {
  Serial.begin(115200);
  WiFi.begin(WIFI_NAME, WIFI_PASSWORD);
  while (WiFi.status() != WL_CONNECTED) {
    delay(200);
  }
  configTime(0, 0, "pool.ntp.org");
  mqtt.setServer(SERVER, PORT);
  mqtt.setBufferSize(1024);
  mqtt.setCallback(received);
}

void loop() {
  connectToServer();
  mqtt.loop();
  if (millis() - lastSent < INTERVAL_MS) {
    return;
  }
  lastSent = millis();
  struct timeval now;
  gettimeofday(&now, nullptr);
  char payload[160];
  if (now.tv_sec > EARLIEST) {
    snprintf(payload, sizeof(payload),
             "{\"timestamp\": %ld.%06ld, \"value\": {\"temperature\": %.1f, \"wifi\": %d}}",
             (long)now.tv_sec, (long)now.tv_usec, temperatureRead(), WiFi.RSSI());
  } else {
    snprintf(payload, sizeof(payload), "{\"value\": {\"temperature\": %.1f, \"wifi\": %d}}",
             temperatureRead(), WiFi.RSSI());
  }
  mqtt.publish(measurements.c_str(), payload);
}
