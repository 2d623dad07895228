"""Wire types of Tripline: what travels on Kafka and what a verdict is. Imports nothing of ours."""
