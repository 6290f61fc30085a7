"""Reports for the pages: the filter in a page's address, ranges of time in the reader's zone, rights, and CSV.

The store computes the figures (`gateway/store/reports`).
"""
