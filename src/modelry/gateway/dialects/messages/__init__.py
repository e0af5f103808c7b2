"""Anthropic's Messages API: calls of it are made chats, and its counts of tokens those of engines.

https://docs.anthropic.com/en/api/messages
"""
