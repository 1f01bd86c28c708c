"""The parts of tuning: what is learned from, the base and its heads, methods, losses, prompts, advice."""
