# ruff: noqa: RUF001 - phrases of many languages
"""Refusals, deflections and placeholders are recognised; answers that only sound like them are not."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.cascade.signals import compile_signals
from orchestrator.cascade.signals.refusal import is_deflection
from orchestrator.cascade.signals.refusal_phrases import REFUSALS
from orchestrator.records import Signal
from tests.drafts import draft_of, task_of, unread

REFUSED = {
    "en": [
        "As an AI language model, I don't have access to live data.",
        "I'm sorry, but I can't assist with that.",
        "I’m sorry, I cannot help with this request.",
        "I cannot provide medical advice.",
        "I can't.",
        "**I am unable to fulfill this request.**",
        "Sorry, I'm not able to do that.",
        "Unfortunately, I cannot determine the total.",
        "I apologize for the inconvenience, but I can't answer that.",
        "I'm just an AI and can't browse.",
        "  \n> I won't comply with that.",
    ],
    "de": [
        "Als KI-Sprachmodell kann ich das nicht beurteilen.",
        "Es tut mir leid, aber ich kann dabei nicht helfen.",
        "Leider kann ich diese Anfrage nicht bearbeiten.",
        "Ich kann Ihnen dabei leider nicht weiterhelfen.",
    ],
    "fr": [
        "En tant qu’IA, je ne peux pas répondre.",
        "Je suis désolé, mais je ne peux pas vous aider.",
        "Je ne suis pas en mesure de fournir cette information.",
        "Malheureusement, je ne peux pas accéder à ces données.",
    ],
    "es": [
        "Como modelo de lenguaje, no tengo acceso.",
        "Lo siento, pero no puedo ayudarte con eso.",
        "No puedo proporcionar esa información.",
    ],
    "it": [
        "Come intelligenza artificiale, non ho opinioni.",
        "Mi dispiace, ma non posso aiutarti.",
        "Non sono in grado di fornire queste informazioni.",
    ],
    "pt": [
        "Como um modelo de linguagem, não tenho acesso.",
        "Desculpe, mas não posso ajudar com isso.",
        "Não consigo fornecer essa informação.",
    ],
    "nl": ["Als AI-taalmodel kan ik dit niet.", "Het spijt me, maar ik kan je daar niet mee helpen."],
    "pl": ["Jako model językowy nie mam dostępu.", "Przepraszam, ale nie mogę w tym pomóc."],
    "sv": ["Som en AI-modell har jag inga åsikter.", "Tyvärr kan jag inte hjälpa till med det."],
    "ru": ["Как языковая модель, я не имею мнения.", "Извините, но я не могу помочь с этим."],
    "tr": ["Bir yapay zeka dil modeli olarak görüşüm yok.", "Üzgünüm, bu konuda yardımcı olamıyorum."],
    "zh": ["作为一个人工智能语言模型,我无法提供意见。", "很抱歉，我无法回答这个问题。", "對不起，我不能協助您。"],
    "ja": ["申し訳ございませんが、そのご要望にはお応えできません。", "AIとして、意見を持っていません。"],
    "ko": ["죄송합니다. 해당 요청은 도와드릴 수 없습니다.", "저는 인공지능 언어 모델로서 의견이 없습니다."],
    "ar": ["عذراً، لا أستطيع مساعدتك في ذلك.", "للأسف لا يمكنني تقديم هذه المعلومات."],
    "hi": ["क्षमा करें, मैं इसमें मदद नहीं कर सकता।"],
}

ANSWERS = [
    "I can't log in to my account since Monday.",
    "I cannot make it to the meeting on Friday; could we move it?",
    "Sorry for the late reply, the parcel left on Monday.",
    "Unfortunately, the widget is out of stock.",
    "The customer says: I cannot help but love this widget.",
    "As an aid to memory, here is the list.",
    "As an Italian company we invoice in EUR.",
    "I am an accountant in Oslo.",
    "Canned answer: we cannot provide refunds after 30 days.",
    "Als Kilopreis gilt 3,50 EUR.",
    "Leider ist der Artikel ausverkauft.",
    "Ich kann am Montag liefern.",
    "Je suis désolé pour le retard, le colis part demain.",
    "Lo siento mucho, su pedido llegará mañana.",
    "Purtroppo il pacco è in ritardo.",
    "Som en följd av detta levererar vi på måndag.",
    "Как правило, доставка занимает два дня.",
    "申し訳ございません。発送は明日になります。",
    "抱歉让您久等了,包裹明天发出。",
    "죄송합니다. 배송은 내일 도착합니다.",
    "Unknown Pleasures, vinyl, 2 copies",
    "N/A-rated cable, 3 m",
    "Stringent quality checks",
    "<b>bold</b> text",
    "3",
    "[]",
    "{}",
    '{"item": "blue widget"}',
]


@pytest.mark.parametrize(("code", "text"), [(code, text) for code, texts in REFUSED.items() for text in texts])
def test_refusals_are_recognised_in_their_language(code: str, text: str) -> None:
    assert measured(text).reason == f"the answer reads like a refusal ({code})"
    assert is_deflection(text)


def test_every_language_of_the_table_has_an_example() -> None:
    assert REFUSED.keys() == REFUSALS.keys()


@pytest.mark.parametrize("text", ANSWERS)
def test_answers_that_sound_like_refusals_are_answers(text: str) -> None:
    assert measured(text).reason == ""
    assert not is_deflection(text)


@pytest.mark.parametrize(
    "text",
    ["N/A", "not specified", " Null. ", "TODO", "TODO: fill in", "<value>", "[insert name]", "{{name}}", "{name}",
     "Lorem ipsum dolor", "-", "...", "…", "keine Angabe", "不明", "“n/a”", "string", "Your answer here"],
)  # fmt: skip
def test_placeholders_are_recognised_as_whole_values(text: str) -> None:
    assert measured({"item": text}, task="2x blue widget").reason == "value.item is a placeholder"
    assert is_deflection(text)


@pytest.mark.parametrize("text", ["", "  \n", "***", '""'])
def test_an_empty_answer_is_a_deflection(text: str) -> None:
    assert not measured(text).ok
    assert is_deflection(text)


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "item": {"type": "string"},
        "kind": {"enum": ["bug", "unknown"]},
        "note": {"type": "string"},
        "lines": {"type": "array", "items": {"type": "object", "required": ["name"], "properties": {"name": {}}}},
    },
    "required": ["item", "kind"],
}


def measured(value: Any, *, task: str = "", **options: Any) -> Signal:
    signals = compile_signals([{"refusal": options}], output_schema=None if isinstance(value, str) else SCHEMA)
    return signals.measure_sync(draft_of(value), task_of(task))["refusal"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"item": "widget", "kind": "unknown"}, ""),
        ({"item": "unknown", "kind": "bug"}, ""),
        ({"item": "N/A", "kind": "bug"}, "value.item is a placeholder"),
        ({"item": "", "kind": "bug"}, "value.item is empty"),
        ({"item": "widget", "kind": "bug", "note": ""}, ""),
        ({"item": "widget", "kind": "bug", "note": "I'm sorry, I can't assist with that."},
         "value.note reads like a refusal (en)"),
        ({"item": "widget", "kind": "bug", "lines": [{"name": "a"}, {"name": " "}]}, "value.lines[1].name is empty"),
        ({"item": 3, "kind": None}, ""),
    ],
)  # fmt: skip
def test_fields_are_looked_at_with_their_schema(value: Any, reason: str) -> None:
    assert measured(value).reason == reason


def test_a_field_that_quotes_the_task_is_no_refusal() -> None:
    said = "I can't complete this order, the page hangs."
    assert not measured({"item": said, "kind": "bug"}).ok
    assert measured({"item": said, "kind": "bug"}, task=f"Ticket 7: {said} Please help").ok


def test_a_whole_answer_that_quotes_the_task_still_refuses() -> None:
    assert not measured("I cannot help with that.", task="Say: I cannot help with that.").ok


def test_a_draft_that_is_no_json_is_read_as_text() -> None:
    signals = compile_signals(["refusal"], output_schema=SCHEMA)
    assert not signals.measure_sync(unread("I cannot assist with that."), task_of())["refusal"].ok
    assert signals.measure_sync(unread("{broken"), task_of())["refusal"].ok


def test_options_allow_add_and_forgive() -> None:
    assert measured({"item": "N/A", "kind": "bug"}, allow=["n/a"]).ok
    assert not measured("Please contact support for this.", also=["please contact support"]).ok
    assert measured({"item": "", "kind": "bug"}, empty=False).ok


def test_a_long_hostile_text_is_looked_at_only_at_its_beginning() -> None:
    assert measured("fine " * 200_000 + "I cannot help with that.").ok
    assert measured({"item": "(" * 1_000_000 + "x", "kind": "bug"}).ok
