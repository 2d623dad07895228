"""The competitors of `tripline bench detect`: pins, names and knobs, and what runs in their own environment."""
