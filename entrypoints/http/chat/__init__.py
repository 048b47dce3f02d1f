"""
OpenAI's chat completions, as far as they are ours: what is asked, answered, and wrong.

https://platform.openai.com/docs/api-reference/chat
"""
