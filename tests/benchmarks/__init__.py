"""Measurements that anyone can repeat. They are not tests: absolute numbers belong to a machine."""
