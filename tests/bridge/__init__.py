"""Between a source and a sink: convert, set aside, settle."""
