"""Access to brokers that are not ours: their files and their control topics."""
