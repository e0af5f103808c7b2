"""Chats whose answers have a given form, on engines that only know grammars: calls of functions
that are sure to come and to be valid, and JSON by a schema.

The engine gets a grammar, and hears of functions in the prompt alone; what it wrote is read back
into `tool_calls`.
"""
