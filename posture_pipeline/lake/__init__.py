"""The lake: where every table lies, how it is written and read. No scoring rules in here."""
