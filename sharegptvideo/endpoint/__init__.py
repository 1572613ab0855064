"""One client for every OpenAI-compatible endpoint, with limits, retries, a budget and a cache.

>>> client = ChatClient("served-model", base_url="http://localhost:8000/v1")  # doctest: +SKIP
>>> replies = in_parallel(client.complete, [[{"role": "user", "content": "Hello"}]], width=8)
... # doctest: +SKIP
"""

from sharegptvideo.endpoint.budget import Estimate
from sharegptvideo.endpoint.client import ChatClient, in_parallel
from sharegptvideo.endpoint.messages import Message, NoAnswerError, Reply
from sharegptvideo.endpoint.options import Endpoint, EndpointOptions, find_endpoint
from sharegptvideo.endpoint.server_errors import BudgetError, CallFailedError, EndpointError
from sharegptvideo.endpoint.store import ReplyStore

__all__ = [
    "BudgetError",
    "CallFailedError",
    "ChatClient",
    "Endpoint",
    "EndpointError",
    "EndpointOptions",
    "Estimate",
    "Message",
    "NoAnswerError",
    "Reply",
    "ReplyStore",
    "find_endpoint",
    "in_parallel",
]
