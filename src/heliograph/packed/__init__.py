"""Packed history: measurements that are no longer hot, as columns instead of rows. Pure."""
