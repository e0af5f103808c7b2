"""APIs beside OpenAI's chat completions whose calls are chats to everything behind the gateway."""
