"""Shows values: as text for people, as one JSON document for scripts. Decides nothing."""
