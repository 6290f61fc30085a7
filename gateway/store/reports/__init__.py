"""Reports for the pages. They are computed from the sums over calls that the store keeps (`store/sums.py`)."""
