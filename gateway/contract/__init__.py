"""What a plugin is: flags, translators and observers, and the values that pass between them and the gateway.

This is the one public place for plugin authors. Everything here is pure: no network, no await, no configuration beyond
a call's target. It imports nothing else of the gateway.
"""
