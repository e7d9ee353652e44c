"""The lists and patterns behind the features of the mode head. All see lower-case text.

A cue speaks for one of our own tools: without one, none of them is called. It is generous, since the learned weights decide.
Not covered: languages beyond English but for a few everyday phrases, and bare arithmetic in any script.
"""

import re
from collections.abc import Callable, Mapping, Sequence

_NUMBER_WORDS = frozenset(
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty "
    "thirty forty fifty sixty seventy eighty ninety hundred thousand million billion half third quarter twice "
    "double triple dozen".split()
)
_FIGURE = re.compile(r"\d+(?:[.,:/-]\d+)*")
_N = (
    r"(?:[-+]?[$€£]?\d[\d.,]*\d?\s?(?:%|percent\b)?|(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|"
    r"twenty|thirty|forty|fifty|hundred|thousand)\b)"
)
_COUNT = (
    r"(?:\d+|an?|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|sixty|ninety|hundred)"
)
_SPAN = (
    r"(?:business )?(?:day|week|fortnight|month|year|hour|minute|tag|woche|monat|jahr|jour|semaine|mois|día|semana)(?:s|en|e|n)?"
)
_UNIT = (
    r"(?:mm|cm|km|met(?:re|er)s?|(?:kilo|centi|milli|deci|nano|micro)met(?:re|er)s?|inch(?:es)?|foot|feet|ft|yards?|"
    r"miles?|meilen|light.?years?|kg|mg|grams?|"
    r"(?:kilo|milli|micro)grams?|kilos?|tonnes?|tons?|pounds?|lbs?|ounces?|oz|stones?|ml|cl|lit(?:re|er)s?|(?:milli|"
    r"centi)lit(?:re|er)s?|gallons?|"
    r"pints?|quarts?|cups?|(?:table|tea)spoons?|tablesp\w+|teasp\w+|tbsp|tsp|fluid ounces?|celsius|celcius|"
    r"fahrenheit|kelvin|degrees?|acres?|hectares?|"
    r"square \w+|cubic \w+|mph|kmh|km/h|knots?|joules?|calories|kcal|watts?|kilowatts?|horsepower|bytes?|[kmgt]b|"
    r"(?:kilo|mega|giga|tera)bytes?|bits?|"
    r"psi|pascals?|bars?|newtons?|radians?|kilometer|barrels?|bushels?)"
)
_UNITS = re.compile(rf"(?<![a-z]){_UNIT}(?![a-z])")
_SHORT_UNIT = r"(?:m|g|l|c|f|in|st|°\s?[cf])"
_OPERATION = (
    r"(?:[-+*/×÷^]|\*\*|plus|minus|times|x|divided by|multiplied by|over|mod|modulo|to the power(?: of)?|raised to|into|"
    r"mal|durch|geteilt durch|fois|por|entre)"
)
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sep(?:t|tember)?|oct(?:ober)?|"
    r"nov(?:ember)?|dec(?:ember)?)"
)
_DATE = re.compile(
    rf"\b\d{{4}}-\d\d?-\d\d?\b|\b\d\d?[./]\d\d?[./]\d{{2,4}}\b|\b\d{{1,2}}(?:st|nd|rd|th)?(?: of)? {_MONTH}\b|"
    rf"\b{_MONTH} \d|\b(?:since|in) \d{{4}}\b"
)
_FILE = (
    r"(?:(?:[\w.~-]*/)+[\w.-]*|[\w-]+\.(?:txt|md|csv|tsv|json|jsonl|toml|ya?ml|xml|html?|pdf|docx?|xlsx?|py|js|ts|c|h|"
    r"cpp|rs|go|java|sh|log|ini|cfg|sql|ipynb)\b)"
)
_NAMED_FILE = r"[\w-]{1,60}\.(?:txt|md|csv|tsv|jsonl?|toml|ya?ml|docx?|xlsx?|log|ini|cfg|ipynb|pdf)\b"

WORDS: Mapping[str, frozenset[str]] = {
    name: frozenset(words.split())
    for name, words in {
        "prove": "prove proof derive derivation induction theorem lemma converges diverges",
        "solve": (
            "solve solved evaluate simplify factorise factorize integrate differentiate determine calculate compute estimate find"
        ),
        "maths": "equation integral derivative matrix eigenvalues probability polynomial triangle rectangle circle radius "
        "angle area "
        "perimeter volume hypotenuse prime divisor factorial ratio median variance average mean sum product "
        "quadratic logarithm sequence "
        "vector slope coefficient speed velocity acceleration mass interest annuity compounded",
        "quantity": "many much each every per total altogether together left remaining remain more less fewer than twice half "
        "third "
        "quarter double times percent average cost costs price pays paid earns sells sold bought buys spends spent gives gave eats "
        "ate cuánto cuántas cuántos combien wie viele",
        "reason": "reasoning reason logic logically deduce infer implies therefore puzzle riddle knights knaves liar truth bloops "
        "tallest shortest step-by-step carefully",
        "plan": "plan planning strategy roadmap itinerary curriculum proposal programme timeline schedule budget milestones "
        "workshops framework campaign agenda lernplan planifie whitepaper architecture syllabus course",
        "write": "write draft compose letter email essay story poem script article blog post report review song speech paragraph",
        "code": "code function python java javascript c++ c# rust sql script regex program class api html css typescript kotlin "
        "react django php bash json database algorithm array list string tuple dictionary library compile error bug",
        "compare": "compare contrast versus vs pros cons advantages disadvantages weigh rank prioritise prioritize evaluate assess",
        "then": "then afterwards finally lastly next subsequently first second third",
        "thorough": "detailed comprehensive thorough complete full in-depth extensive",
        "rephrase": "translate rewrite rephrase paraphrase proofread grammar spell spelling synonym synonyms translation summarise "
        "summarize title tone polite politely friendlier",
        "chat": "hi hello hey thanks thank joke lol ok please bye morning love feel",
        "wh": "what who where when why which how",
        "meaning": "mean means meaning define definition idiom phrase word called",
        "task": "list outline choose pick analyse analyze research summarise summarize design develop create propose "
        "suggest identify "
        "explain describe justify collect draft write plan organise organize set build conclude recommend measure test investigate",
        "mine": "my i me i'm i'd mine our we",
        "now": "now today current currently latest tonight tomorrow yesterday",
    }.items()
}
"""Word lists; a feature says whether one of a list occurs, another how many do."""

PATTERNS: Mapping[str, re.Pattern[str]] = {
    "equals": re.compile(r"="),
    "variable": re.compile(r"\b[a-z]\s*[=^]|\b\d+[a-z]\b|\bf\(\w|\b[xyn]\s*[-+*/<>]|\b[nxy]²"),
    "latex": re.compile(r"\\(?:frac|sum|int|sqrt|begin|left|in|le|ge|alpha|beta|circ|ket)|\$[^$\n]{1,200}\$|[√∑∫≤≥≠ℝ∈∀∃⊂]"),
    "how many": re.compile(
        r"\bhow (?:many|much|far|long|old|fast|tall)\b|\bin how many\b|\bwie (?:viele|weit|viel)\b|\bcombien\b|\bcuánt[oa]s?\b"
    ),
    "what is the": re.compile(r"\bwhat(?:'s| is| are| was) the\b"),
    "if then": re.compile(r"\bif\b.{3,200}(?:,|\bthen\b|\bhow\b|\bwhat\b)", re.DOTALL),
    "money": re.compile(r"[$€£]\s?\d|\d\s?(?:[$€£]|dollars?|euros?|cents?|pounds)\b"),
    "percent": re.compile(r"\d\s?(?:%|percent)"),
    "unit": re.compile(rf"\d\s?{_UNIT}(?![a-z])|\d\s?{_SHORT_UNIT}(?![a-z])"),
    "step by step": re.compile(
        r"step[- ]by[- ]step|show (?:your|the|me your) (?:work|reasoning|steps)|\bexplain (?:the steps|"
        r"your (?:answer|reasoning))|\bshow why\b|\bthe logic\b"
    ),
    "show that": re.compile(r"\bshow that\b|\bprove\b|\bderive\b|\bproof\b"),
    "write code": re.compile(
        r"\b(?:write|create|make|implement|develop|give|show|build|code)\b.{0,60}\b(?:function|program|script|class|"
        r"code|regex|query|app|plugin|api|component|shader|testbench)\b",
        re.DOTALL,
    ),
    "and then": re.compile(
        r"\band (?:then|finally)\b|, then\b|\bthen (?:write|compare|draft|lay|weigh|propose|explain|choose|pick|"
        r"prioriti)|\bfinally\b|\bafter that\b"
    ),
    "first": re.compile(r"(?:^|\n)\s*first\b"),
    "plan for": re.compile(
        r"\b(?:make|create|write|draft|design|develop|propose|outline|prepare|set up|build|give me|"
        r"provide)\b.{0,60}\b(?:plan|strategy|roadmap|proposal|programme|curriculum|course|schedule|itinerary|guide|"
        r"workshops|policy|outline|whitepaper)\b",
        re.DOTALL,
    ),
    "plan it": re.compile(r"^(?:please |can you |help me )?(?:plan|organi[sz]e|design|develop)\b"),
    "list of parts": re.compile(r"[^,.;:]{3,60},[^,.;:]{3,60},[^,.;:]{0,60}\band\b|:[^.]{10,200},[^.]{3,200},"),
    "rephrase": re.compile(
        r"^(?:please )?(?:can you )?(?:translate|rewrite|rephrase|correct|proofread|spell|define|put this|make this|summari[sz]e)\b"
    ),
    "say in": re.compile(
        r"\b(?:say|translate|called|mean|write)\b.{0,60}\b(?:in|into|to) (?:spanish|french|german|italian|english|"
        r"polish|chinese|japanese|latin|dutch|portuguese|russian)\b"
    ),
    "what does it mean": re.compile(r"\bwhat (?:does|do|did)\b.{1,60}\bmean\b|\bmeaning of\b|\bdefin(?:e|ition)\b|\bidiom\b"),
    "name in sentence": re.compile(r"\b(?:he|she|they|his|her|their|him)\b"),
    "what if": re.compile(r"^what if\b"),
    "role": re.compile(r"\b(?:pretend|imagine|you are an?|act as|as an? \w+,)"),
    "is it": re.compile(r"^(?:is|are|does|do|did|can|could|will|would|should|has|have)\b"),
    "bare sum": re.compile(
        r"^\W*(?:what(?:'s| is)|whats|how much is|calculat\w*|compute|quick:?|was ist|combien font|"
        r"cuánto es)?\W*[\d\s.,+*/×÷^()%$=-]*\d[\d\s.,+*/×÷^()%$=-]*\W*$"
    ),
    "logic": re.compile(
        r"\bif all\b|\ball \w+ are \w+.{1,80}\ball \w+ are|\b(?:lies?|lying|liars?|truth)\b.{1,80}\b(?:says?|truth|lies?)\b|"
        r"\bimplies\b|\bwhat follows\b|\bmust (?:be true|follow)\b|\b(?:tall|short|old|young|fast|"
        r"heavi)er than\b.{1,120}\b(?:who|which)\b"
    ),
    "chance": re.compile(r"\b(?:probability|odds|chances?) (?:of|that)\b"),
    "plain time": re.compile(
        r"^\W*(?:\w+ ){0,7}?(?:time|date|day(?: of the week)?|hour|year)(?: is it| it is| is today| today| now|"
        r" right now| are we| is)?"
        r"(?: (?:in|at|for|over in) [\w ,]{2,30})?(?: right now| now)?\W*$"
    ),
    "time of something": re.compile(
        r"\b(?:day|month|year|time|date|hour)s? (?:is|does|did|was|were|will|of|do|should|to|can|for) (?!it\b|today|"
        r"now|in\b|the (?:current|time|date|day)\b|"
        r"(?:the )?week\b|we\b)\w+|\bname of\b"
    ),
    "week by week": re.compile(r"\b(\w+)[- ]by[- ]\1\b|\b(?:acts|stages|phases|sections|chapters|parts|steps)\b"),
    "appointments": re.compile(
        r"\b(?:alarm|timer|meeting|appointment|reminder|calendar|reservation|flight|travel|traffic|drive|arriv\w*|"
        r"bill|due|payment|deliver\w*|wait|holiday|pay ?day|born|song|playing|expir\w*)\b"
    ),
    "best time": re.compile(
        r"\b(?:best|good|right|high|free|first|next|last|long|old) (?:time|date|day)\b|\btime of (?:day|year) to\b"
    ),
}
"""Patterns; a feature says whether one occurs."""


def numbers(text: str, tokens: Sequence[str]) -> int:
    """How many figures and number words a text has."""
    return len(_FIGURE.findall(text)) + sum(token in _NUMBER_WORDS for token in tokens)


def _any(*patterns: str) -> Callable[[str, bool, bool], bool]:
    compiled = re.compile("|".join(f"(?:{pattern})" for pattern in patterns))
    return lambda text, code, attached: compiled.search(text) is not None


_CALCULATE = _any(
    rf"{_N}\s*{_OPERATION}\s*\(?\s*{_N}",
    rf"\d\s?(?:%|percent|per cent)\s+(?:of|off|from)\s+{_N}",
    r"(?:square|cube|cubic|\d+th) root of|\bsqrt\b|\broot of \d",
    rf"\b(?:add|sum|subtract|subract|substract|multiply|multiplied|divide|divided|plus|minus|times|split|product|"
    rf"difference)\b.{{0,40}}?{_N}.{{0,40}}?{_N}",
    rf"{_N}.{{0,30}}\b(?:added|plus|minus|subtracted|multiplied|divided|times|split|cubed|squared)\b",
    r"\bfactorial\b|\d\s?!(?!\w)|\bsquared\b|\bcubed\b|\blog(?:arithm)?\b.{0,12}\d|\b(?:sin|cos|tan)\b.{0,4}\d|"
    r"\bexponent|\bpower of\b|\d+(?:st|nd|rd|th) power\b",
    rf"\b(?:average|mean|median|sum|total|difference|product)\b.{{0,25}}(?:of|between) {_N}",
    r"\b(?:math|maths|arithmetic|equation)\b.{0,30}\b(?:problem|question|equation)\b",
)
_NOW = _any(
    r"\bwhat(?! an? )(?:'s| is|s)?\b.{0,20}\b(?:time|hour|date|day|year|month)\b",
    r"\b(?:wat|tell me|give me|know|need|check|got|let me know|show me|share|provide|say)\b.{0,25}\b(?:time|date|"
    r"hour|day of the week)\b",
    r"\b(?:which|what) (?:day|date|year|month|hour|weekday)\b|\btoday's\b|\btodays date\b|\bthe date (?:today|is|of today)",
    r"\b(?:current|exact|local|present) (?:time|date|year|day|hour|month)|\btime (?:now|right now|is it|please|in|"
    r"zone)|\btime\s?zones?\b|\btimezone",
    r"\bis (?:it|today) (?:already |still )?(?:monday|tuesday|wednesday|thursday|friday|saturday|sunday|a weekday|the weekend)",
    r"\b(?:have|got|is|tell) the time\b|\bclock\b|\b(?:what's|what is|whats) (?:today|tomorrow)\b|\bright now\b|"
    r"\bcalend[ae]r says\b",
    r"\bwie spät|\bwieviel uhr|\bquelle heure|\bqué hora|\bche ore|\bque horas|\bhow late is it|\bdate and time\b|"
    r"\bcurrent(?:ly)? .{0,20}\btime\b",
)
_ADD_DATE = _any(
    rf"\b{_COUNT} {_SPAN} (?:from|after|before|ago|later|hence|earlier|past)\b",
    rf"\b(?:date|day)\b.{{0,40}}\bin {_COUNT} (?:more )?{_SPAN}",
    rf"\bin {_COUNT} (?:more )?{_SPAN}.{{0,40}}\b(?:date|day)\b",
    rf"\badd {_COUNT} {_SPAN} to\b|\b{_COUNT} {_SPAN} from (?:now|today|tomorrow)|\b{_SPAN} ago\b",
    rf"\b{_COUNT} {_SPAN}\b.{{0,40}}\b(?:date|day)\b|\b(?:date|day)\b.{{0,40}}\b{_COUNT} {_SPAN}\b",
)
_DATES_APART = _any(
    rf"\bhow (?:many|long)\b.{{0,30}}\b(?:{_SPAN}|is it|has it been|have passed)\b.{{0,30}}\b(?:until|untill|till|"
    rf"til|between|since|from|to|left|before|ago|passed)\b",
    rf"\b{_SPAN} (?:until|till|between|since|before|left)\b",
    r"\bhow long ago\b|\bhow (?:many|much) \w+ (?:is|are|was) it (?:since|until)\b",
    r"\bhow old\b.{0,40}\b(?:born|\d{4})|\bage of\b.{0,30}\bborn\b|\bcountdown to\b",
)
_WEEKDAY = _any(
    r"\b(?:what|which) (?:day of the week|weekday|day) (?:is|was|will|does|did)\b.{0,60}\d",
    r"\bwas \d.{0,30}\d{4} a \w+day\b|\bleap year\b|\bweek number\b",
)
_TIME_ZONES = _any(
    r"\b\d{1,2}:\d\d\b.{0,20}\b(?:to|in)\b.{0,20}\btime\b|\b(?:utc|gmt|est|pst|cet|pacific|eastern)\b.{0,20}\b(?:to|"
    r"in)\b.{0,20}\btime\b",
    r"\b\d{1,2}(?::\d\d)? ?(?:am|pm|a\.m\.|p\.m\.|h|o'clock)?\b.{0,40}\b(?:in|to) .{0,40}\b(?:time|est|pst|cet|gmt|"
    r"utc|[a-z]+ time)\b",
    r"\bwhen it(?:'s| is) \d.{0,60}what time\b",
)
_READ = _any(
    rf"\b(?:read|open|show|cat|display|summari[sz]e|explain|check|review|look|bug|say|says|line|lines|in|inside|from|"
    rf"load|print|file|of|contents?)\b.{{0,40}}(?<![\w/]){_FILE}",
    rf"^\W*{_FILE}|(?<![\w/@.]){_NAMED_FILE}",
)
_LIST = _any(
    r"\b(?:list|show|display|see|which|what)\b.{0,30}\b(?:files?|folders?|director(?:y|ies)|subfolders?)\b",
    r"\b(?:list|show|everything)\b.{0,20}\b(?:in|under) [\w.~-]*/|\b(?:in|inside) my [\w ]{0,20}\b(?:folder|"
    r"directory)\b|\bfiles? in my\b",
    r"^ls\b|^dir\b|\bfiles?\b.{0,30}\b(?:in|inside|of) (?:my|the|this|that)\b.{0,20}\b(?:folder|directory|project|"
    r"repo|repository)\b",
)
_SEARCH = _any(
    r"\b(?:find|search|grep|which|locate|look for|look through|where|scan)\b.{0,40}\b(?:files?|notes|folder|folders|"
    r"directory|repo|repository|codebase|project|source)\b",
    r"\b(?:where|which|what|search|look|find|any)\b.{0,20}\b(?:in|of|through) my (?:code|notes|files|project|repo|source)\b",
    r"\bgrep\b|\bin which file\b|\bfiles?\b.{0,25}\b(?:contain|contains|containing|mention|mentions|with the word)\b",
)
_DOCUMENTS = _any(
    r"\b(?:attached|uploaded|attachment|attachments)\b",
    r"\b(?:according to|in|from|of|through) (?:the|my|this|that|our|these) (?:\w+ )?(?:pdf|pdfs|document|documents|"
    r"contract|report|paper|manual|handbook|slides|lease)\b",
    r"\b(?:the|my|this) (?:pdf|document|documents|contract|manual|handbook|paper|report)\b.{0,30}\b(?:say|says|"
    r"state|states|mention|mentions)\b",
)
_PYTHON = _any(
    r"\b(?:run|execute|exec)\b.{0,40}\b(?:code|script|python|snippet|program|this|below|it)\b",
    r"\b(?:use|using|with|in) python to\b|\bpython\b.{0,20}\b(?:to (?:compute|calculate|plot|count|simulate))\b",
    r"\bsimulate\b.{0,40}\d|\bwhat (?:does|will) (?:this|the) (?:code|script|program) (?:print|output|return)\b",
)
_TO_UNIT = re.compile(
    rf"\b(?:in|to|into|as|is|are|equal|equals|per|for|and|make|sind|from)\b\s+(?:an? |one |half (?:of )?an? |"
    rf"\d[\d.,]* |two )?(?:{_UNIT}|{_SHORT_UNIT})(?![a-z])"
)
_AMOUNT = re.compile(rf"(?:\d|\b{_COUNT}|\bhalf)\s?(?:of a |an? )?(?:{_UNIT}|{_SHORT_UNIT})(?![a-z])")

_TIME_UNITS = re.compile(
    r"\bhow many (?:seconds|minutes|hours|days|weeks|months|years) (?:are |is |make )?(?:there )?(?:in|a|an|make)\b"
)


def _convert(text: str, code: bool, attached: bool) -> bool:
    if _TIME_UNITS.search(text):
        return True
    kinds = set(_UNITS.findall(text))
    if (
        re.search(r"\bconv\w{1,3}t\w*\b|\bconversion\b|\bequivalent\b|\bhow (?:many|much)\b|\b(?:number|amount) of\b", text)
        and kinds
    ):
        return len(kinds) >= 2 or bool(_AMOUNT.search(text) and _TO_UNIT.search(text))
    return bool(_AMOUNT.search(text) and _TO_UNIT.search(text)) or (len(kinds) >= 2 and bool(_TO_UNIT.search(text)))


def _python(text: str, code: bool, attached: bool) -> bool:
    return _PYTHON(text, code, attached)


def _documents(text: str, code: bool, attached: bool) -> bool:
    return not attached and _DOCUMENTS(text, code, attached)


def _dated(text: str, code: bool, attached: bool) -> bool:
    if _DATES_APART(text, code, attached):
        return True
    return len(_DATE.findall(text)) >= 2 and bool(re.search(rf"\b{_SPAN}\b|\bhow long\b|\bdifference\b", text))


def _add_date(text: str, code: bool, attached: bool) -> bool:
    if _ADD_DATE(text, code, attached):
        return True
    return bool(_DATE.search(text) and re.search(rf"\b{_COUNT} {_SPAN}\b", text))


CUES: Mapping[str, Callable[[str, bool, bool], bool]] = {
    "calculator": _CALCULATE,
    "now": _NOW,
    "add_to_date": _add_date,
    "days_between": _dated,
    "describe_date": _WEEKDAY,
    "convert_time": _TIME_ZONES,
    "convert_units": _convert,
    "read_file": _READ,
    "list_files": _LIST,
    "search_files": _SEARCH,
    "search_documents": _documents,
    "run_python": _python,
}
"""Cue by the tool it speaks for: of the lower-case words, whether code stands beside them, whether an attachment does."""

ALIASES: Mapping[str, tuple[str, ...]] = {"days_between": ("days_between", "date_difference")}
"""Names that a cue's tool may have, where it is not the cue's own alone."""
BUILT_IN: frozenset[str] = frozenset(name for cue in CUES for name in ALIASES.get(cue, (cue,)))
"""Names of tools that cues speak for."""
