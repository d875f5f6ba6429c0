"""Speech: recordings and phones to features and labels, and a net's scores to a phone error rate."""
