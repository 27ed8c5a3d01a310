"""Values: mappings, envelopes, ids."""
