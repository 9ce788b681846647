"""The records of Heliograph as plain values; imports nothing else of the project."""
