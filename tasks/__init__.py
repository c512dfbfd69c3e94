"""The four tasks: how a sample becomes a request, and how an answer is scored."""

from .captioning import Captioning
from .classification import Classification
from .retrieval import Retrieval
from .vqa import Vqa

__all__ = ["Captioning", "Classification", "Retrieval", "Vqa"]
