"""What a change would do and what a request would meet, in plain words. Pure: sites and snapshots in."""
