"""One client for every OpenAI-compatible endpoint: bounded, patient, and quick to give up for good.

>>> client = ChatClient("served-model", base_url="http://localhost:8000/v1")  # doctest: +SKIP
>>> replies = in_parallel(client.complete, [[{"role": "user", "content": "Hello"}]], width=8)
... # doctest: +SKIP
"""

from sharegptvideo.llm.client import CallFailedError, ChatClient, EndpointError, Message, Reply
from sharegptvideo.llm.endpoint import Endpoint, find_endpoint
from sharegptvideo.llm.parallel import in_parallel

__all__ = [
    "CallFailedError",
    "ChatClient",
    "Endpoint",
    "EndpointError",
    "Message",
    "Reply",
    "find_endpoint",
    "in_parallel",
]
