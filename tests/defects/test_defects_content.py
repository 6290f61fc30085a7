"""Tests of defects 4, 5, 15, 16 and 21 to 30 of other gateways, about content: tool results, blank texts, files,
schemas.

The number of a defect is in the names of its tests: `defect_NN`.
"""

import base64
import re

import pytest

from tests.defects.conversions import CLAUDES, HAIKU, LLAMA, MISTRAL, OPENAIS, WRITER, conversions
from tests.helpers.samples import CITY, PDF, PNG

JPEG = base64.b64encode(b"\xff\xd8\xff\xe0" + bytes(16)).decode()
SVG = base64.b64encode(b"<svg xmlns='http://www.w3.org/2000/svg'/>").decode()
TEXT = base64.b64encode(b"hello").decode()
CALL = ("a", "look", {})
to_converse = conversions(upstreams=("bedrock_converse",))


def answered(say, *parts, **more):
    return [*say.user(say.text("Hi")), *say.called(CALL), *say.answered("a", *parts, **more)]


@to_converse
@pytest.mark.parametrize("model", [LLAMA, MISTRAL, WRITER])
def test_defect_04_and_05_text_stands_apart_from_results(conversion, model):
    """Check that text and tool results are sent in separate turns to a model that requires separate turns."""
    say = conversion.say
    sent = conversion.sent([*answered(say, say.text("1")), *say.user(say.text("And?"))], model, tools=[say.tool()])
    assert [role for role, _ in sent.turns] == ["user", "assistant", "user", "assistant", "user"]
    assert sent.turns[-1] == ("user", [("text", "And?")])


@conversions(clients=("anthropic_messages", *OPENAIS), upstreams=("openai_chat",))
def test_defect_04_text_stands_apart_from_results_behind_chat_too(conversion):
    say = conversion.say
    conversation = [*answered(say, say.text("1")), *say.user(say.text("And?"))]
    sent = conversion.sent(conversation, caps={"tool_result_alone": True}, tools=[say.tool()])
    assert [message["role"] for message in sent.body["messages"]][-3:] == ["tool", "assistant", "user"]


@to_converse
def test_defect_04_a_document_stands_apart_from_results_on_every_model(conversion):
    say = conversion.say
    conversation = [*answered(say, say.text("1")), *say.user(say.text("Read"), say.document())]
    sent = conversion.sent(conversation, tools=[say.tool()])
    assert [part[0] for part in sent.turns[-1][1]] == ["text", "document"]
    assert [role for role, _ in sent.turns] == ["user", "assistant", "user", "assistant", "user"]


@to_converse
@pytest.mark.parametrize("model", [LLAMA, MISTRAL])
def test_defect_15_additional_properties_are_taken_out(conversion, model):
    """Check that `additionalProperties` is removed from a schema if the model's family refuses it."""
    schema = {**CITY, "additionalProperties": False}
    hello = conversion.say.user(conversion.say.text("Hi"))
    for chosen, there in ((model, False), (HAIKU, True)):
        sent = conversion.sent(hello, chosen, tools=[conversion.say.tool(schema=schema)])
        assert ("additionalProperties" in sent.tools["look"].schema) is there


@conversions(upstreams=CLAUDES)
def test_defect_16_every_object_of_an_answers_schema_is_closed(conversion):
    """Check that all objects of an answer's schema are closed (no additional properties) for Claude's providers.

    For Chat this is not needed, because the schema is sent as not strict.
    """
    schema = {"type": "object", "properties": {"inner": CITY}, "required": ["inner"]}
    sent = conversion.sent(conversion.say.user(conversion.say.text("Hi")), caps={"json_schema": True}, schema=schema)
    assert str(sent.body).replace('"', "'").replace("false", "False").count("'additionalProperties'") == 2


@conversions()
@pytest.mark.parametrize("blank", ["", " \n"])
def test_defect_21_and_23_a_result_that_is_blank_says_so_in_words(conversion, blank):
    sent = conversion.sent(answered(conversion.say, conversion.say.text(blank)), tools=[conversion.say.tool()])
    assert sent.parts("result") == [("result", "a", [("text", "(no output)")])]


@conversions()
def test_defect_21_a_result_of_nothing_says_so_in_words(conversion):
    sent = conversion.sent(answered(conversion.say), tools=[conversion.say.tool()])
    assert sent.parts("result") == [("result", "a", [("text", "(no output)")])]


@conversions(clients=("anthropic_messages", "bedrock_converse"))
def test_defect_22_an_error_without_words_has_some(conversion):
    sent = conversion.sent(answered(conversion.say, error=True), tools=[conversion.say.tool()])
    ((_, _, ((_, text),)),) = sent.parts("result")
    assert "(no output)" in text
    assert "rror" in str(sent.body["messages"])


@conversions()
@pytest.mark.parametrize("blank", ["", " "])
def test_defect_24_blank_text_beside_an_image_is_left_out(conversion, blank):
    sent = conversion.sent(conversion.say.user(conversion.say.text(blank), conversion.say.image()))
    assert [part[0] for part in sent.turns[0][1]] == ["image"]


@conversions()
def test_defect_25_a_document_alone_arrives(conversion):
    """Check that a document without text reaches the provider. Converse requires a text beside a document, so one is
    added.
    """
    sent = conversion.sent(conversion.say.user(conversion.say.document()))
    kinds = [part[0] for part in sent.turns[0][1]]
    assert kinds == (["text", "document"] if conversion.upstream == "bedrock_converse" else ["document"])


@conversions()
def test_defect_25_a_message_of_nothing_is_left_out(conversion):
    say = conversion.say
    nothing = [*say.user(), *say.assistant("")]
    sent = conversion.sent([*say.user(say.text("Hi")), *nothing, *say.user(say.text("Well?"))])
    content = [part for _, parts in sent.turns for part in parts]
    assert content == [("text", "Hi"), ("text", "Well?")]


@conversions(clients=("anthropic_messages", *OPENAIS), upstreams=("bedrock_converse",))
def test_defect_26_documents_without_a_title_get_different_names(conversion):
    say = conversion.say
    sent = conversion.sent(say.user(say.text("Read"), say.document(), say.document()))
    assert len({part[1] for part in sent.parts("document")}) == 2


@to_converse
@pytest.mark.parametrize(
    ("given", "name"), [("a_b.v2.pdf", "a b v2"), ("Übersicht\u3000 2.pdf", "bersicht 2"), ("報告", "Document")]
)
def test_defect_27_a_documents_name_has_the_letters_that_bedrock_takes(conversion, given, name):
    sent = conversion.sent(conversion.say.user(conversion.say.text("Read"), conversion.say.document(name=given)))
    assert sent.parts("document") == [("document", name)]


@conversions(clients=("anthropic_messages", *OPENAIS), upstreams=("bedrock_converse",))
def test_defect_28_a_document_in_a_result_has_a_name(conversion):
    sent = conversion.sent(answered(conversion.say, conversion.say.document()), tools=[conversion.say.tool()])
    ((_, _, inner),) = sent.parts("result")
    assert inner == [("document", "Document")]


@conversions()
@pytest.mark.parametrize(("data", "mime", "kind"), [(JPEG, "image/jpg", "jpeg"), (PNG, "image/jpeg", "png")])
def test_defect_29_an_image_is_what_its_bytes_say(conversion, data, mime, kind):
    sent = conversion.sent(conversion.say.user(conversion.say.text("See"), conversion.say.image(data, mime)))
    assert sent.parts("image") == [("image", kind)]


@conversions()
def test_defect_29_an_image_of_an_unknown_kind_is_refused(conversion):
    """Check that an image of a type that no model accepts is refused by an error that names the field."""
    problem = conversion.refusal(
        conversion.say.user(conversion.say.text("See"), conversion.say.image(SVG, "image/svg+xml"))
    )
    assert problem.code == "invalid_request"
    assert re.search(r"content\[1\]|contents\[0\]\.parts\[1\]", problem.param)


@conversions(clients=("anthropic_messages", *OPENAIS))
@pytest.mark.parametrize("mime", ["image/png; charset=utf-8", "IMAGE/PNG", ""])
def test_defect_30_parameters_of_a_media_type_lose_no_image(conversion, mime):
    sent = conversion.sent(conversion.say.user(conversion.say.text("See"), conversion.say.image(PNG, mime)))
    assert sent.parts("image") == [("image", "png")]
    sent = conversion.sent(
        conversion.say.user(conversion.say.text("Read"), conversion.say.document(PDF, "a.pdf", "application/pdf; x=y"))
    )
    assert len(sent.parts("document")) == 1


@conversions(clients=("anthropic_messages", *OPENAIS), upstreams=("bedrock_converse",))
def test_defect_30_parameters_of_a_media_type_are_ignored(conversion):
    """Check that a document's media type is recognised even if parameters follow it."""
    sent = conversion.sent(
        conversion.say.user(conversion.say.text("Read"), conversion.say.document(TEXT, "", "text/csv; charset=utf-8"))
    )
    assert sent.body["messages"][0]["content"][1]["document"]["format"] == "csv"


@conversions(clients=CLAUDES, upstreams=CLAUDES)
def test_defect_29_an_image_in_a_result_is_what_its_bytes_say(conversion):
    sent = conversion.sent(
        answered(conversion.say, conversion.say.image(JPEG, "image/png")), tools=[conversion.say.tool()]
    )
    assert sent.parts("result") == [("result", "a", [("image", "jpeg")])]
