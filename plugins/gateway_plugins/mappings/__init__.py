"""The turns and options of one dialect's request as another dialect says them, for translators that share a direction.

Only `translators/` imports from here. What a dialect demands or says by itself stands in `dialects/`.
"""
