"""What devices send besides JSON, and that a hostile payload is refused in bounded time."""
