"""OpenAI's Responses API: calls of it are made chats, and kept to be continued.

https://platform.openai.com/docs/api-reference/responses
"""
