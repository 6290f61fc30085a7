"""Reports for the pages: figures over stored calls, computed from sums that the store keeps by quarter hour, hour and
day.
"""
