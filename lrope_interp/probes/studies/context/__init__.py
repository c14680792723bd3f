"""What learned increments cost as context grows."""
