"""Text to probabilities: labelled sets, fine-tuning, calibration, evaluation, and scoring with the model that ships."""
