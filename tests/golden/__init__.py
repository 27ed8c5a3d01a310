"""Messages as real devices send them, and the events that they become."""
