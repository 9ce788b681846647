"""What is due, told before it is removed, and removed."""
