"""Real servers, faults and oracles that tests share."""
