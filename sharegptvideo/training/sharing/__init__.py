"""A clip's tokens once for all the answers about it: layout, attention, and the model's call.

Nothing is imported here: loader workers need the layout alone, and start without the rest.
"""
