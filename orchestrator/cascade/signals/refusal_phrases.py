"""How models say that they won't answer, language by language, and what they write where they have nothing.

Each pattern stands at the very start of an answer, after `refusal.normalised`: NFKC, case-folded, straight quotes,
no leading punctuation. They say what only a refusing model says: "I can't log in" is a customer, not a refusal.
"""

# ruff: noqa: E501, RUF001 - a table of many languages: lines are phrases, and letters look alike

from __future__ import annotations

_EN_SORRY = (
    r"(?:(?:i(?:'m| am) (?:really |so |very |truly )?(?:sorry|afraid)|sorry|apologies|my apologies|i apologi[sz]e"
    r"|unfortunately|regrettably)(?: for (?:the|any) [a-z ]{1,30})?[,.;:!]? ?(?:but |however,? |that )?)"
)
_EN_CANT = (
    r"(?:i (?:can't|can ?not|could not|couldn't|won't|will not|am unable to|am not able to|must decline to"
    r"|don't have the ability to|do not have the ability to)|i'm (?:unable|not able) to|we (?:can't|can ?not))"
)
_EN_VERB = (
    r"(?:help|assist|comply|fulfil+|accommodate|provide|answer|respond|complete (?:this|that|your)|engage|generate"
    r"|continue with|proceed|process (?:this|that|your)|do (?:that|this)|support (?:this|that|your)|offer|give (?:you|advice)"
    r"|create|produce|write|discuss|share|extract|determine|identify|parse|summari[sz]e|translate|perform (?:this|that)|be able to help)"
)

REFUSALS: dict[str, tuple[str, ...]] = {
    "en": (
        r"as an? (?:ai\b|artificial intelligence|(?:large )?language model|virtual assistant|(?:helpful )?assistant,? i)",
        r"i(?:'m| am) (?:just |only )?an? (?:ai\b|artificial intelligence|(?:large )?language model)",
        _EN_SORRY + _EN_CANT + r"\b",
        _EN_SORRY + r"(?:this|that|your) (?:request|question|task) (?:can't|can ?not|is not something)",
        _EN_CANT + r" " + _EN_VERB + r"\b",
        _EN_CANT + r"[.!]?$",
        r"i (?:do not|don't) feel comfortable\b",
        r"(?:this|that|your) request (?:violates|goes against)\b",
    ),
    "de": (
        r"als (?:eine? )?(?:ki\b|künstliche intelligenz|(?:großes )?sprachmodell|ki-|virtuelle[rs]? assistent)",
        r"ich bin (?:nur |lediglich )?(?:eine? )?(?:ki\b|künstliche intelligenz|sprachmodell)",
        r"(?:es tut mir (?:sehr )?leid|tut mir leid|entschuldigung|entschuldigen sie|verzeihung|leider)[,.:]? ?(?:aber |dass )?"
        r"(?:ich kann|kann ich|ich darf|darf ich|ich bin nicht in der lage)[^.]{0,60}",
        r"(?:ich kann|kann ich) (?:ihnen |dir |euch )?(?:dabei |damit |hierbei |hier |darauf |diese |die |ihre )?"
        r"(?:anfrage |frage )?(?:leider )?(?:nicht|keine) (?:\w+ )?(?:helfen|weiterhelfen|beantworten|antworten|geben|erfüllen|bearbeiten)",
    ),
    "fr": (
        r"en tant qu(?:e |')(?:ia\b|intelligence artificielle|modèle de lang|assistant (?:ia|virtuel))",
        r"je suis (?:une ia\b|une intelligence artificielle|un modèle de lang)",
        r"(?:(?:je suis |vraiment )?(?:désolée?|navrée?)|malheureusement|je regrette)[,.:]? ?(?:mais )?"
        r"je ne (?:peux|puis|suis pas en mesure|saurais)",
        r"je ne (?:peux|puis) (?:malheureusement )?pas (?:vous |t')?(?:aider|répondre|fournir|accéder|traiter|donner|satisfaire)",
        r"je ne suis pas en mesure (?:de|d')",
    ),
    "es": (
        r"como (?:una? )?(?:ia\b|inteligencia artificial|modelo de lengua|asistente (?:de ia|virtual))",
        r"soy (?:una ia\b|una inteligencia artificial|un modelo de lengua)",
        r"(?:lo siento|lo lamento|lamentablemente|desafortunadamente|disculp[ae]|perd[óo]n)[,.:]? ?(?:pero )?(?:yo )?no "
        r"(?:puedo|me es posible|estoy en condiciones)",
        r"no (?:puedo|me es posible) (?:ayudar|responder|proporcionar|cumplir|asistir|ofrecer|atender|completar esta)",
    ),
    "it": (
        r"(?:come|in quanto) (?:ia\b|intelligenza artificiale|modello linguistic|assistente (?:ia|virtuale))",
        r"sono (?:un'ia\b|un'intelligenza artificiale|un modello linguistic)",
        r"(?:mi dispiace|spiacente|mi scuso|purtroppo|scusa|scusi)[,.:]? ?(?:ma )?non (?:posso|sono in grado)",
        r"non (?:posso|sono in grado di) (?:aiutar|risponder|fornir|soddisfar|assister|completare quest)",
    ),
    "pt": (
        r"(?:como|enquanto) (?:uma? )?(?:ia\b|inteligência artificial|modelo de linguagem|assistente (?:de ia|virtual))",
        r"sou (?:uma ia\b|uma inteligência artificial|um modelo de linguagem)",
        r"(?:sinto muito|lamento|desculpe|desculpa|infelizmente|peço desculpas?)[,.:]? ?(?:mas )?(?:eu )?não (?:posso|consigo)",
        r"(?:eu )?não (?:posso|consigo) (?:ajudar|responder|fornecer|atender|auxiliar|cumprir)",
    ),
    "nl": (
        r"als (?:een )?(?:ai\b|taalmodel|kunstmatige intelligentie|virtuele assistent)",
        r"ik ben (?:slechts |maar )?een (?:ai\b|taalmodel|kunstmatige intelligentie)",
        r"(?:het spijt me|sorry|helaas|mijn excuses)[,.:]? ?(?:maar )?(?:ik kan|kan ik)[^.]{0,40}(?:niet|geen)\b",
        r"ik kan (?:je |u |jou )?(?:hier |daar )?(?:mee |bij |op )?(?:helaas )?niet (?:\w+ )?(?:helpen|antwoorden|voldoen|beantwoorden)",
    ),
    "pl": (
        r"jako (?:sztuczna inteligencja|model językowy|asystent ai|wirtualny asystent|ai\b)",
        r"(?:przepraszam|przykro mi|niestety)[,.:]? ?(?:ale )?nie (?:mogę|jestem w stanie)",
        r"nie (?:mogę|jestem w stanie) (?:pomóc|odpowiedzieć|udzielić|spełnić|podać)",
    ),
    "sv": (
        r"som (?:en )?(?:ai\b|språkmodell|ai-|artificiell intelligens)",
        r"(?:jag är ledsen|tyvärr|förlåt|jag beklagar)[,.:]? ?(?:men )?(?:jag kan|kan jag) (?:tyvärr )?inte",
        r"jag kan (?:tyvärr )?inte (?:hjälpa|svara|tillhandahålla|uppfylla)",
    ),
    "ru": (
        r"(?:как|я) (?:—|-)? ?(?:ии\b|искусственный интеллект|языковая модель|большая языковая модель|виртуальный ассистент)",
        r"(?:извините|простите|к сожалению|мне жаль|прошу прощения)[,.:]? ?(?:но )?(?:я )?не (?:могу|в состоянии|смогу)",
        r"я не (?:могу|в состоянии) (?:помочь|ответить|выполнить|предоставить|дать)",
    ),
    "tr": (
        r"(?:bir )?(?:yapay zek[aâ]|dil modeli)[^.]{0,20} olarak",
        r"(?:üzgünüm|maalesef|özür dilerim)[^.]{0,80}(?:[ae]m[ıi]yorum|[ae]mam|[ae]mem)\b",
    ),
    "zh": (
        r"(?:作为|作為|身为)(?:一个|一個|一名|一款)?(?:ai|人工智[能慧]|大?型?[语語]言模型|智能助手)",
        r"(?:很|非常|十分)?(?:抱歉|对不起|對不起|遗憾)[,。! ]{0,2}(?:但是?)?我?(?:暂时|目前)?(?:无法|無法|不能|不便|没有办法)",
        r"我(?:无法|無法|不能|不便)(?:回答|提供|协助|協助|帮助|幫助|帮|满足|滿足|处理您|生成|完成您|讨论)",
    ),
    "ja": (
        r"(?:私は)?(?:ai|人工知能|(?:大規模)?言語モデル|aiアシスタント)(?:として|なので|ですので|であるため)",
        r"(?:大変|誠に)?(?:申し訳(?:ございません|ありません|ございませんが|ありませんが)|すみません|恐れ入ります|ごめんなさい)"
        r"[^。]{0,20}。?[^。]{0,60}(?:できません|できかねます|いたしかねます|お答えできない|わかりません)",
        r"(?:その|この|ご)(?:要望|リクエスト|質問|依頼)[^。]{0,20}(?:できません|できかねます|いたしかねます)",
    ),
    "ko": (
        r"(?:저는 )?(?:ai|인공지능|(?:대규모 )?언어 ?모델)[^.]{0,10}(?:로서|이기 때문에|이므로|이라서)",
        r"(?:죄송합니다|죄송하지만|미안하지만|유감스럽게도|유감이지만)[^.]{0,10}\.?[^.]{0,60}(?:수 없|못합니다|어렵습니다|불가능)",
    ),
    "ar": (
        r"(?:عذر|آسف|أعتذر|للأسف|نعتذر)[^.]{0,40}لا (?:أستطيع|يمكنني|أقدر|يمكن)",
        r"لا (?:أستطيع|يمكنني) (?:مساعدت|الإجابة|تقديم|المساعدة|تلبية)",
        r"(?:بصفتي|باعتباري|كوني) (?:نموذج|ذكاء|مساعد)",
    ),
    "hi": (
        r"(?:क्षमा करें|माफ़ करें|माफ करें|मुझे खेद है)[^।]{0,60}(?:नहीं कर सकत|असमर्थ|नहीं दे सकत)",
    ),
}

PLACEHOLDERS: frozenset[str] = frozenset({
    "n/a", "n.a.", "not available", "not applicable", "not specified", "not provided", "not found", "not known",
    "not given", "not mentioned", "not stated", "unknown", "unspecified", "undefined", "null", "nil", "nan", "tbd", "tba",
    "tbc", "todo", "to do", "to be determined", "to be defined", "to be announced", "fixme", "xxx", "xxxx", "placeholder",
    "string", "your answer here", "insert text here", "insert value here", "your text here", "sample text", "some text",
    "example text", "no answer", "no data", "no information", "no information available", "i don't know", "i do not know",
    "-", "--", "---", "—", "–", "?", "??", "???", "...", "…", ".", "_", "__", "___", "/", "*",
    "unbekannt", "keine angabe", "keine angaben", "k.a.", "k. a.", "nicht angegeben", "nicht verfügbar", "nicht bekannt",
    "nicht zutreffend", "entfällt", "ich weiß es nicht",
    "inconnu", "inconnue", "non disponible", "non spécifié", "non précisé", "non renseigné", "sans objet", "je ne sais pas",
    "desconocido", "desconocida", "no disponible", "no especificado", "no aplica", "sin datos", "no lo sé",
    "sconosciuto", "sconosciuta", "non disponibile", "non specificato", "non applicabile", "non lo so",
    "desconhecido", "desconhecida", "não disponível", "não informado", "não especificado", "não se aplica", "não sei",
    "onbekend", "niet beschikbaar", "niet opgegeven", "niet van toepassing", "n.v.t.", "ik weet het niet",
    "nieznane", "nieznany", "nie dotyczy", "brak danych", "nie wiem", "okänd", "okänt", "ej tillgänglig", "vet ej",
    "неизвестно", "неизвестен", "нет данных", "не указано", "не применимо", "bilinmiyor", "belirtilmemiş",
    "未知", "不明", "不详", "不適用", "不适用", "暂无", "该当なし", "該当なし", "不明です", "わかりません", "未定",
    "알 수 없음", "해당 없음", "미상", "모름", "غير معروف", "غير متوفر", "अज्ञात",
})

FILLERS = (
    r"<[^<>]{1,60}>$",
    r"\[(?:insert|your|enter|placeholder|fill|value|name|text|todo|tbd)\b[^\[\]]{0,60}\]$",
    r"\{\{[^{}]{1,60}\}\}$",
    r"\{[\w ]{1,60}\}$",
    r"\$\{[^{}]{1,60}\}$",
    r"lorem ipsum\b",
    r"(?:todo|fixme|tbd)\b ?[:.-]",
    r"(?:insert|enter|put) (?:your )?\w+ here$",
)
"""Whole values (or their beginnings) that are a template's, not an answer's."""
