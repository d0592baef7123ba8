"""Edge strength as a Medusa task."""
