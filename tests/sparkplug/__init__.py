"""Sparkplug B: its decoder, what a host remembers, and a gateway that is one."""
