"""How much is lost when an embedding model is made smaller: measured on sentences that come with the package.

The sentences are questions of the kind that caches and tool searches see, each with a paraphrase that means the same
and with neighbours that differ in one word, and some that stress a tokenizer. They only compare a model with itself:
nothing is tuned to them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]

SENTENCES = (
    "How do I reset my password?",
    "I forgot my password, how can I get a new one?",
    "How do I change my email address?",
    "Where can I update the e-mail on my account?",
    "My card was stolen, what should I do?",
    "Somebody took my bank card. Help!",
    "My card has not arrived yet.",
    "I am still waiting for my new card to be delivered.",
    "Why was I charged twice?",
    "There are two identical payments on my statement.",
    "Cancel my subscription, please.",
    "I would like to stop my monthly plan.",
    "Renew my subscription, please.",
    "What is the exchange rate from dollars to euros?",
    "How many euros do I get for one US dollar?",
    "What is the exchange rate from euros to dollars?",
    "How long does an international transfer take?",
    "When will money sent abroad arrive?",
    "What is the capital of Norway?",
    "Which city is Norway's capital?",
    "What is the capital of Sweden?",
    "Who wrote Pride and Prejudice?",
    "Name the author of Pride and Prejudice.",
    "What is the boiling point of water at sea level?",
    "At what temperature does water boil at normal pressure?",
    "What is the freezing point of water?",
    "Will it rain in Paris tomorrow?",
    "What is tomorrow's weather forecast for Paris?",
    "Will it rain in Berlin tomorrow?",
    "Set an alarm for 7 am.",
    "Wake me up at seven in the morning.",
    "Set an alarm for 7 pm.",
    "Book a table for two on Friday evening.",
    "Reserve dinner for two people this Friday.",
    "Book a table for four on Friday evening.",
    "How do I reverse a list in Python?",
    "What is the way to turn a Python list around?",
    "How do I sort a list in Python?",
    "How do I read a CSV file with pandas?",
    "Load comma separated data into a pandas DataFrame.",
    "What does the error 'index out of range' mean?",
    "Explain an IndexError in Python.",
    "How can I undo the last git commit?",
    "Revert my most recent commit in git.",
    "How do I push a branch with git?",
    "Explain how a hash table works.",
    "Describe the idea behind hash maps.",
    "What is the difference between TCP and UDP?",
    "Compare UDP with TCP.",
    "How do I enable two-factor authentication?",
    "How do I disable two-factor authentication?",
    "Turn on 2FA for my account.",
    "Is the museum open on Sundays?",
    "Can I visit the museum on a Sunday?",
    "Is the museum closed on Mondays?",
    "How many calories are in a banana?",
    "What is the energy content of one banana?",
    "Recommend a book about the history of Rome.",
    "Which book on ancient Rome should I read?",
    "What are the side effects of ibuprofen?",
    "Can ibuprofen make me feel unwell?",
    "What is the maximum dose of ibuprofen?",
    "Translate 'good morning' into Spanish.",
    "How do you say good morning in Spanish?",
    "Translate 'good night' into Spanish.",
    "How far is the moon from the earth?",
    "What is the distance between earth and moon?",
    "How far is the sun from the earth?",
    "Summarise this meeting in three sentences.",
    "Give me a short summary of the meeting.",
    "Play some jazz music.",
    "Put on a jazz playlist.",
    "Stop the music.",
    "Order 12 boxes of paper for the office in Leeds.",
    "Order 21 boxes of paper for the office in Leeds.",
    "Which employees joined the company in 2019?",
    "List the staff hired during 2019.",
    "Which employees left the company in 2019?",
    "What is our refund policy for damaged goods?",
    "Can a customer return a broken item and be paid back?",
    "yes",
    "continue",
    "",
    "   ",
    "?!",
    "SELECT name, total FROM orders WHERE total > 100 ORDER BY total DESC LIMIT 10;",
    "def add(a: int, b: int) -> int:\n    return a + b",
    '{"tool": "search", "arguments": {"query": "flights to Oslo", "limit": 5}}',
    "https://example.org/a/very/long/path?with=a&query=string#fragment",
    "Wie setze ich mein Passwort zurück?",
    "¿Cómo puedo cambiar mi contraseña?",
    "Comment réinitialiser mon mot de passe ?",
    "パスワードを変更するにはどうすればいいですか",
    "как сбросить пароль?",
    "naïve café — “quoted”, and a thumbs-up 👍",
    "Reset reset reset reset reset reset reset reset reset reset.",
    "A customer writes that the parcel arrived late, that the box was open and one of the two cups in it was broken, "
    "and that nobody answered the phone when she called the shop on Tuesday; she asks for her money back. " * 3,
    "The quarterly report shows revenue of 4.2 million, costs of 3.1 million and a headcount of 57. " * 30,
)

# An export beyond these is refused. MiniLM in int8 keeps a median cosine above 0.99 to itself and finds another
# nearest sentence for one in twenty; a graph that was exported wrongly, or weights that overflow, fall far below.
_MIN_COSINE = 0.9
_MIN_MEDIAN_COSINE = 0.97
_MIN_NEIGHBOURS = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How far the vectors of a smaller model are from those of its original.

    Attributes:
        sentences: How many sentences were compared.
        cosine_min: Cosine of the sentence that moved the most.
        cosine_median: Cosine of the sentence in the middle.
        neighbours: Share of the sentences whose nearest other sentence stayed the same.
    """

    sentences: int
    cosine_min: float
    cosine_median: float
    neighbours: float

    @property
    def acceptable(self) -> bool:
        """Whether the smaller model may stand in for the original."""
        return (
            self.cosine_min >= _MIN_COSINE
            and self.cosine_median >= _MIN_MEDIAN_COSINE
            and self.neighbours >= _MIN_NEIGHBOURS
        )

    def __str__(self) -> str:
        return (
            f"cosine to the original: median {self.cosine_median:.4f}, lowest {self.cosine_min:.4f}; "
            f"same nearest neighbour for {self.neighbours:.0%} of {self.sentences} sentences"
        )


def compare(original: Floats, smaller: Floats) -> Quality:
    """What was lost from `original` to `smaller`: both float32 `[n, d]`, unit norm, row by row the same sentence."""
    if original.shape != smaller.shape or not np.isfinite(smaller).all():
        return Quality(sentences=len(original), cosine_min=-1.0, cosine_median=-1.0, neighbours=0.0)
    cosines = np.einsum("ij,ij->i", original, smaller)
    return Quality(
        sentences=len(original),
        cosine_min=float(cosines.min()),
        cosine_median=float(np.median(cosines)),
        neighbours=float(np.mean(_nearest_other(original) == _nearest_other(smaller))),
    )


def _nearest_other(rows: Floats) -> NDArray[np.intp]:
    similarities = rows @ rows.T
    np.fill_diagonal(similarities, -2.0)
    nearest: NDArray[np.intp] = similarities.argmax(axis=1)
    return nearest


def sentences_digest() -> str:
    """Tells stored vectors of these sentences from those of another version of the package."""
    return hashlib.sha256("\x00".join(SENTENCES).encode()).hexdigest()[:16]
