"""Access to brokers that are not ours: their files, their control topics, who logs in there."""
