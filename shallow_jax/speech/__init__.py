"""Speech: recordings and phones to features and labels, a net's scores to a phone error rate."""
