"""One client for every OpenAI-compatible endpoint: bounded, patient, and quick to give up for good.

>>> client = ChatClient("served-model", base_url="http://localhost:8000/v1")  # doctest: +SKIP
>>> replies = in_parallel(client.complete, [[{"role": "user", "content": "Hello"}]], width=8)
... # doctest: +SKIP
"""

from sharegptvideo.llm.client import ChatClient
from sharegptvideo.llm.endpoint import Endpoint, find_endpoint
from sharegptvideo.llm.estimate import Estimate
from sharegptvideo.llm.faults import BudgetError, CallFailedError, EndpointError
from sharegptvideo.llm.options import EndpointOptions
from sharegptvideo.llm.parallel import in_parallel
from sharegptvideo.llm.replies import Message, Reply

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
