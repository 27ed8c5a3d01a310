"""Tests of what services import."""
