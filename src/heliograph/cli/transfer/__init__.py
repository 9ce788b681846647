"""What `heliograph export` and `heliograph import` are made of."""
