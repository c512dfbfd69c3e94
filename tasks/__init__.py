"""The four tasks: how a sample becomes a request, and how an answer is scored."""

from tasks.captioning import Captioning
from tasks.classification import Classification
from tasks.retrieval import Retrieval
from tasks.vqa import Vqa

__all__ = ["Captioning", "Classification", "Retrieval", "Vqa"]
