"""Tracing, with a collector that decodes what arrives."""
