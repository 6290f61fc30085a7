"""The amount that a provider bills, computed from the raw bytes of its reply and of the request that it got.

This module is a second implementation of the providers' billing rules. It shares no code with the gateway: it splits
events, chooses the usage reports that count, and adds up the prices itself.
"""

import base64
import json
from dataclasses import dataclass
from fractions import Fraction
from math import floor

from botocore.eventstream import EventStreamBuffer

KINDS = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")
METRICS = "amazon-bedrock-invocationMetrics"


@dataclass
class Bill:
    """The bill of a provider for one call: token counts, and other properties that affect the price.

    An item of `parts` is (model, counts). The model is "" for the called model.
    """

    parts: list
    exact: bool = True
    tier: str = ""
    is_fast: bool = False
    """True if the called model ran in its fast mode. Other models in the call, such as an advisor's, are billed without
    a fast mode.
    """
    factor: Fraction = Fraction(1)
    searches: int = 0

    @property
    def counts(self):
        return tuple(sum(part[1][index] for part in self.parts) for index in range(len(KINDS)))

    def nanodollars(self, prices):
        """Return the cost in nanodollars.

        `prices` are dollars for a million tokens, by model and tier. A search costs 0.01 dollars.
        """
        total = Fraction(self.searches, 100) * 10**6
        for model, counts in self.parts:
            row = prices[model, "fast" if self.is_fast and not model else self.tier]
            total += self.factor * sum(Fraction(price) * count for price, count in zip(row, counts, strict=True))
        return floor(total * 1000 + Fraction(1, 2))


def events_of(raw):
    """Return the complete events of a stream as pairs (type, data).

    The stream consists of server-sent events or of AWS's frames.
    """
    if raw[:1] == b"\0":
        return frames_of(raw)
    *blocks, rest = raw.decode().replace("\r\n", "\n").split("\n\n")
    payloads = [payload for block in blocks for payload in payloads_of(block)]
    # the last event may lack its blank line, if it is whole otherwise
    payloads += [payload for payload in payloads_of(rest) if is_json(payload)]
    return [("", json.loads(payload)) for payload in payloads if payload != "[DONE]"]


def payloads_of(block):
    return [line[5:].strip() for line in block.split("\n") if line.startswith("data:")]


def is_json(text):
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def frames_of(raw):
    buffer = EventStreamBuffer()
    buffer.add_data(raw)
    events = []
    for frame in buffer:
        data = json.loads(frame.payload)
        kind = frame.headers[":event-type"]
        events.append((kind, json.loads(base64.b64decode(data["bytes"])) if kind == "chunk" else data))
    return events


def lifetimes(value):
    """Return the lifetimes of prompt caches that a request asks for (`cache_control` and `cachePoint`): "5m", "1h" or
    both.
    """
    if isinstance(value, list):
        return set().union(*map(lifetimes, value))
    if not isinstance(value, dict):
        return set()
    own = {
        value[name].get("ttl") or "5m" for name in ("cache_control", "cachePoint") if isinstance(value.get(name), dict)
    }
    return own.union(*map(lifetimes, value.values()))


def by_lifetime(written, five, hour, marks):
    """Return the tokens that were cached for five minutes, those that were cached for an hour, and whether this split
    is certain.

    `written` is the total that the provider reports. `five` and `hour` are the tokens that it reports for each
    lifetime. Tokens that are only in the total get the lifetime in `marks`: the lifetimes that the request asks for.
    """
    rest = max(0, written - five - hour)
    if "1h" in marks:
        return five, hour + rest, not (rest and len(marks) > 1)
    return five + rest, hour, True


def number(value):
    return value if type(value) is int else None


# Claude


def claude_bill(raw, sent, *, stream):
    """Return the bill of a reply of Messages or of InvokeModel. Return None if the reply reports no usage."""
    marks = lifetimes(sent)
    if not stream:
        return claude_parts([json.loads(raw).get("usage")], None, marks, 0)
    guess, reports, metrics = 0, [], None
    for _, data in events_of(raw):
        if data["type"] == "message_start":
            first = dict(data["message"].get("usage") or {})
            guess = number(first.pop("output_tokens", None)) or 0
            reports.append(first)
        elif data["type"] == "message_delta":
            reports.append(data.get("usage"))
        metrics = data.get(METRICS) or metrics
    return claude_parts(reports, metrics, marks, guess)


def claude_parts(reports, metrics, marks, guess):
    known, told, iterations = claude_counts(filter(None, reports))
    output = known.pop("output", None)
    for name, metric in (
        ("input_tokens", "inputTokenCount"),
        ("cache_read_input_tokens", "cacheReadInputTokenCount"),
        ("cache_creation_input_tokens", "cacheWriteInputTokenCount"),
    ):
        known[name] = (metrics or {}).get(metric) or known.get(name, 0)
    output = (metrics or {}).get("outputTokenCount") or (guess if output is None else output)
    if not any(known.values()) and not output and not iterations:
        return None
    written, five, hour = known["cache_creation_input_tokens"], known.get("5m", 0), known.get("1h", 0)
    five, hour, exact = by_lifetime(written, five, hour, marks)
    top = (known["input_tokens"], output, known["cache_read_input_tokens"], five, hour)
    bill = Bill([("", top)], exact, told.get("service_tier", ""), told.get("speed") == "fast")
    bill.searches = told.get("searches", 0)
    bill.factor = Fraction(11, 10) if told.get("inference_geo") == "us" else Fraction(1)
    for one in iterations:
        add_iteration(bill, one, marks)
    return bill


def claude_counts(reports):
    """Return three values from usage reports: the token counts, other values that determine the price (such as the
    service tier), and the list `iterations`.

    Each value is taken from the last report that has it.
    """
    known, told, iterations = {}, {}, []
    for report in reports:
        prompt = {
            name: number(report.get(name))
            for name in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
        }
        split = report.get("cache_creation") or {}
        lives = {name: number(split.get(f"ephemeral_{name}_input_tokens")) for name in ("5m", "1h")}
        if any(prompt.values()) or any(lives.values()):
            known |= {name: count for name, count in (prompt | lives).items() if count is not None}
            total, split_total = prompt["cache_creation_input_tokens"], known.get("5m", 0) + known.get("1h", 0)
            if set(lives.values()) == {None} and total is not None and total < split_total:
                known |= {"5m": 0, "1h": 0}
        if (written := number(report.get("output_tokens"))) is not None:
            known["output"] = written or known.get("output", 0)
        told |= {name: report[name] for name in ("service_tier", "speed", "inference_geo") if report.get(name)}
        told |= {"searches": (report.get("server_tool_use") or {}).get("web_search_requests", told.get("searches", 0))}
        iterations = report.get("iterations") or iterations
    return known, told, iterations


def add_iteration(bill, one, marks):
    """Add an entry of `usage.iterations` to the bill, unless the other counts in `usage` already include it."""
    if one["type"] not in ("compaction", "advisor_message"):
        return
    split = one.get("cache_creation") or {}
    five, hour = (split.get(f"ephemeral_{name}_input_tokens", 0) for name in ("5m", "1h"))
    five, hour, exact = by_lifetime(one["cache_creation_input_tokens"], five, hour, marks)
    counts = (one["input_tokens"], one["output_tokens"], one["cache_read_input_tokens"], five, hour)
    if any(counts):
        bill.parts.append((one.get("model", ""), counts))
        bill.exact = bill.exact and exact


# Converse


def converse_bill(raw, sent, *, stream):
    reports = [data for kind, data in events_of(raw) if kind == "metadata"] if stream else [json.loads(raw)]
    known, is_reported = {}, False
    for report in (data.get("usage") or {} for data in reports):
        is_reported = is_reported or "inputTokens" in report or "outputTokens" in report
        details = report.get("cacheDetails")
        prompt = {"input": report.get("inputTokens")}
        for kind in ("Read", "Write"):
            counts = [
                report[name] for name in (f"cache{kind}InputTokens", f"cache{kind}InputTokenCount") if name in report
            ]
            prompt[kind] = next(filter(None, counts), 0) if counts else None
        lives = (
            {ttl: sum(one["inputTokens"] for one in details if one["ttl"] == ttl) for ttl in ("5m", "1h")}
            if details
            else {}
        )
        if any(prompt.values()) or any(lives.values()):
            known |= {name: count for name, count in prompt.items() if count is not None} | lives
            if not lives and prompt["Write"] is not None and prompt["Write"] < known.get("5m", 0) + known.get("1h", 0):
                known |= {"5m": 0, "1h": 0}
        known["output"] = report.get("outputTokens") or known.get("output", 0)
    if not is_reported:
        return None
    five, hour, exact = by_lifetime(known.get("Write", 0), known.get("5m", 0), known.get("1h", 0), lifetimes(sent))
    return Bill([("", (known.get("input", 0), known["output"], known.get("Read", 0), five, hour))], exact)


# OpenAI


def openai_bill(raw, sent, *, stream):
    """Return the bill of a reply of Chat or of Responses, or None if the reply reports no usage.

    The request `sent` is not used. Other bills need it for the lifetimes of cached prompts.
    """
    bodies = [data for _, data in events_of(raw)] if stream else [json.loads(raw)]
    usages = [body.get("response", body).get("usage") for body in bodies]
    last = {}
    for usage in filter(None, usages):
        prompt, completion = (usage.get(name, usage.get(other)) for name, other in
                              (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens")))  # fmt: skip
        if not prompt and not completion:
            continue
        cached = cached_of(usage)
        if prompt:
            same = prompt == last.get("prompt")
            last |= {"prompt": prompt, "cached": cached if cached is not None else last.get("cached", 0) if same else 0}
        last["completion"] = completion or last.get("completion", 0)
        details = usage.get("completion_tokens_details") or usage.get("output_tokens_details") or {}
        last["thinking"] = details.get("reasoning_tokens", last.get("thinking", 0))
        last["total"] = usage.get("total_tokens")
    if not last:
        return None
    prompt, cached = last.get("prompt", 0), last.get("cached", 0)
    beyond = max(0, (last["total"] or 0) - prompt - last["completion"])
    if not last["total"] and last["thinking"] > last["completion"]:
        beyond = last["thinking"]
    return Bill([("", (prompt - cached, last["completion"] + beyond, cached, 0, 0))], beyond in (0, last["thinking"]))


def cached_of(usage):
    details = [
        usage.get(name) or {} for name in ("prompt_tokens_details", "prompt_token_details", "input_tokens_details")
    ]
    counts = [one.get("cached_tokens") for one in details]
    counts += [usage.get(name) for name in ("prompt_cache_hit_tokens", "cached_tokens", "num_cached_tokens")]
    known = [count for count in counts if count is not None]
    return max(known) if known else None


BILLS = {
    "anthropic_messages": claude_bill,
    "bedrock_model_invoke": claude_bill,
    "bedrock_converse": converse_bill,
    "openai_chat": openai_bill,
    "openai_responses": openai_bill,
}
