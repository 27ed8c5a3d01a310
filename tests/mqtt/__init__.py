"""The MQTT adapter: codecs, packets, and the session against scripted and real brokers."""
