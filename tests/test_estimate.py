import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_tokopt.estimate import _ASCII_PIECES, _PIECES, estimate

TEXTS = {
    "english": (
        "The committee met on Tuesday to discuss the new library. Most members agreed that the old building "
        "was too small, but nobody wanted to pay for another one. After two hours they decided to ask "
        'an architect, who said that moving three walls would be enough. "It is cheaper than you think,'
        '" she wrote, and it was.'
    ),
    "python": (
        "def merge(left: list[int], right: list[int]) -> list[int]:\n    merged = []\n    while left and "
        "right:\n        source = left if left[0] <= right[0] else right\n        merged.append(source.pop(0))\n"
        "    return merged + left + right\n\n\nclass HttpSession:\n    def __init__(self, base_url, timeout=30.0):\n"
        "        self._base_url = base_url.rstrip('/')\n        self._timeout_seconds = timeout\n"
    ),
    "json": (
        '{"order_id": "A-20931", "customer": {"name": "Maria Lopez", "email": "maria.lopez@example.com"},'
        ' "items": [{"sku": "TBL-4410", "quantity": 2, "unit_price": 149.95}, {"sku": "CHR-0027", "quantity": '
        '6, "unit_price": 59.5}], "shipped": false, "created_at": "2026-03-14T09:26:53Z"}'
    ),
    "german": (
        "Der Ausschuss traf sich am Dienstag, um über die neue Bibliothek zu sprechen. Die meisten Mitglieder "
        "waren sich einig, dass das alte Gebäude zu klein ist, aber niemand wollte für ein anderes bezahlen. "
        "Nach zwei Stunden beschlossen sie, eine Architektin zu fragen."
    ),
    "french": (
        "Le comité s'est réuni mardi pour parler de la nouvelle bibliothèque. La plupart des membres étaient "
        "d'accord pour dire que le vieux bâtiment était trop petit, mais personne ne voulait payer pour "
        "un autre. Après deux heures, ils ont décidé de demander à une architecte."
    ),
    "russian": (
        "Комитет собрался во вторник, чтобы обсудить новую библиотеку. Большинство участников согласились,"
        " что старое здание слишком маленькое, но никто не хотел платить за другое. Через два часа они "
        "решили спросить архитектора."
    ),
    "chinese": (
        "委员会星期二开会讨论新的图书馆。大多数成员都认为旧楼太小,但是没有人愿意出钱再盖一座。两个小时以后,"
        "他们决定请一位建筑师来看看。她说只要移动三面墙就够了,而且比大家想的便宜。"
    ),
    "japanese": (
        "委員会は火曜日に集まって、新しい図書館について話し合いました。ほとんどの委員は古い建物が小さすぎると考えていましたが、"
        "もう一つの建物にお金を払いたい人はいませんでした。"
    ),
    "base64": (
        "eJzNVk1v2zAMvfdXCD51QJw4H23SnIYCW4Ed1gHbsKEoBMWmHaG25EnKx1D0v4+SHTtx0m7ADvXFEinykXwkbf8cEfJEiGcl0MiLZx4vveBD"
        "eJ5lFXBjmQGj8Xqk4RwKYMYepaqwOqVFzSRHnkfIk8EzvHwZhwXlJTG6iGmc8lhmQMIoNm1PAtYmEUoDFaCMYQWgVCgxT0EqQ"
    ),
    "log": (
        "2026-05-17 10:42:07,318 WARN [http-nio-8080-exec-4] com.example.orders.PaymentClient - retry "
        "2/3 for request 7f3c9a10-52be-4c1d-9d0e-6a1f0c2b7e55 after 1250ms: connection reset by 10.14.3.207:443\n"
        "2026-05-17 10:42:09,001 INFO [http-nio-8080-exec-4] com.example.orders.PaymentClient - status=200 "
        "in 642ms\n"
    ),
}
# What tiktoken counts in cl100k, and how far the estimate may be off.
TOKENS = {
    "english": (66, 0.1),
    "python": (96, 0.1),
    "json": (109, 0.05),
    "german": (67, 0.15),
    "french": (70, 0.1),
    "russian": (110, 0.15),
    "chinese": (105, 0.1),
    "japanese": (91, 0.1),
    "base64": (151, 0.05),
    "log": (132, 0.05),
}


@pytest.mark.parametrize("name", TEXTS)
def test_estimate_is_near_to_the_tokenizer(name: str) -> None:
    tokens, tolerance = TOKENS[name]
    assert estimate(TEXTS[name]) == pytest.approx(tokens, rel=tolerance)


def test_scripts_need_fewer_tokens_in_the_newer_encoding() -> None:
    russian, english = TEXTS["russian"], TEXTS["english"]
    assert estimate(russian, "o200k_base") < 0.75 * estimate(russian, "cl100k_base")
    assert estimate(english, "o200k_base") == estimate(english, "cl100k_base")


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("a", 1),
        ("\ud800", 1),
        ("\x00", 1),
        ("   ", 1),
        ("'s", 1),
        ("12345678", 3),
        ("-" * 40, 1),
        ("🙂", 3),
    ],
)
def test_odd_and_tiny_texts(text: str, tokens: int) -> None:
    assert estimate(text) == tokens


@pytest.mark.parametrize("unit", ["a", "A", "aB", "0", " ", "\n", "-", "中", "й", "\u0301", "\ud800", "\U0001f600"])
def test_huge_runs_of_one_kind_are_counted(unit: str) -> None:
    huge = unit * 1_500_000
    assert 0 < estimate(huge) <= len(huge.encode("utf-8", "surrogatepass"))


@given(st.text())
def test_any_text_has_a_count_that_is_stable(text: str) -> None:
    count = estimate(text)
    assert count == estimate(text)
    assert (count == 0) == (text == "")


@given(st.text(alphabet=st.characters(codec="ascii", exclude_characters="\x1c\x1d\x1e\x1f")))
def test_ascii_texts_are_cut_the_same_way_on_the_fast_path(text: str) -> None:
    assert _ASCII_PIECES.findall(text) == _PIECES.findall(text)


@given(st.text())
def test_pieces_make_up_the_text(text: str) -> None:
    assert "".join(_PIECES.findall(text)) == text
