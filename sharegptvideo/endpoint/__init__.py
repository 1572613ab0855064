"""One client for every OpenAI-compatible endpoint: bounded, patient, and quick to give up for good.

>>> client = ChatClient("served-model", base_url="http://localhost:8000/v1")  # doctest: +SKIP
>>> replies = in_parallel(client.complete, [[{"role": "user", "content": "Hello"}]], width=8)
... # doctest: +SKIP
"""

from sharegptvideo.endpoint.client import ChatClient
from sharegptvideo.endpoint.endpoint import Endpoint, find_endpoint
from sharegptvideo.endpoint.estimate import Estimate
from sharegptvideo.endpoint.faults import BudgetError, CallFailedError, EndpointError
from sharegptvideo.endpoint.options import EndpointOptions
from sharegptvideo.endpoint.parallel import in_parallel
from sharegptvideo.endpoint.replies import Message, Reply

__all__ = [
    "BudgetError",
    "CallFailedError",
    "ChatClient",
    "Endpoint",
    "EndpointError",
    "EndpointOptions",
    "Estimate",
    "Message",
    "Reply",
    "find_endpoint",
    "in_parallel",
]
