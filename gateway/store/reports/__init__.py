"""Reports for the pages: figures over stored calls, computed from the sums that the store keeps (`store/sums.py`)."""
