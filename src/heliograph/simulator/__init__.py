"""Simulated sensors: believable signals, sent over MQTT as devices send them."""
