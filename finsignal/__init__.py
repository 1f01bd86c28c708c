"""finsignal: financial news to trading signals, and an honest answer whether they are worth anything."""
