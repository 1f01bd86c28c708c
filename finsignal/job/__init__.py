"""The scheduled job: one pass from the lake to decisions on record, and the proof that the backtest decides alike."""
