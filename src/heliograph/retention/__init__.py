"""Which data is due for removal, shown first, then removed; and the disk budget."""
