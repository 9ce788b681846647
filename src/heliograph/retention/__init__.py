"""What is due, told before it is removed, and removed; and the disk that it is to fit on."""
