"""Hostile and odd input, against the real gateway and a real nats-server."""
