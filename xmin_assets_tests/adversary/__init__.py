"""Random histories of a source, played against the engine; an oracle that shares no code with it says what is right."""
