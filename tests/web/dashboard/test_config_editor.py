"""Tests of the page Configuration in a browser: findings while typing, use with the keyboard alone, the accessibility
rules of axe, and the layout.
"""

import json
import re

import pytest

from tests.helpers.browser import browser_tab
from tests.helpers.waiting import eventually
from tests.web.admin.conftest import TEXT
from tests.web.dashboard.test_layout import DESK, PHONE, TABLET, faults

LONG = "x" * 400
HOSTILE = f"</textarea><img src=x onerror=alert(1)>\u202e{LONG}"


@pytest.fixture
async def tab(served):
    # the browser ends before the gateway, because the gateway waits until the browser's connections have ended
    async with browser_tab() as tab:
        await tab.screen(DESK)
        await tab.watch()
        yield tab


async def open_page(tab, served, path="/ui/config"):
    # an edited page would ask before it is left
    await tab.evaluate("document.querySelector('form')?.removeAttribute('data-edited')")
    await tab.open(served.url + path, {})


async def replace(tab, old, new):
    """Replace a part of the text in the editor, as if somebody had typed it."""
    await tab.evaluate(
        "(() => { const area = document.querySelector('textarea');"
        f"area.value = area.value.replace({json.dumps(old)}, {json.dumps(new)});"
        "area.dispatchEvent(new Event('input')); })()"
    )


async def press_button(tab, step):
    """Press a button of the form, and wait for the page that it leads to."""
    await tab.follow(f"document.querySelector('[value={step}]').click()")


def findings(tab):
    return tab.evaluate("document.querySelector('[data-findings]').innerText")


async def test_findings_follow_the_typing_and_lead_to_their_place(tab, served):
    await open_page(tab, served)
    await replace(tab, '"cost_basis"', '"costbasis"')
    await eventually(lambda: tab.evaluate("document.querySelectorAll('.findings li').length === 2"))
    text = await findings(tab)
    assert "2 findings. A text with findings is not saved." in text
    assert re.search(r"Line 9, column 7: providers\.bedrock\.costbasis: unknown key.*did you mean", text)
    assert await tab.evaluate("document.querySelector('textarea').getAttribute('aria-invalid')") == "true"
    marked = "[...document.querySelectorAll('.numbers b')].map(number => number.textContent.trim())"
    assert await tab.evaluate(marked) == ["4", "9"]
    await tab.evaluate("document.querySelector('.findings a[data-line=\"9\"]').click()")
    place = "(area => area.value.slice(area.selectionStart).startsWith('\"costbasis\"'))(document.activeElement)"
    assert await tab.evaluate(place)
    assert await tab.evaluate("document.querySelector('[data-place]').textContent") == "Line 9, column 7"
    await replace(tab, '"costbasis"', '"cost_basis"')
    await eventually(lambda: tab.evaluate("document.querySelectorAll('.findings li').length === 0"))
    assert "No findings. This text can be saved." in await findings(tab)
    # the text is as it was, so leaving the page asks nothing
    assert not await tab.evaluate("document.querySelector('form').hasAttribute('data-edited')")
    assert tab.errors == []


async def test_a_change_is_made_reviewed_and_saved_by_keyboard(tab, served):
    await open_page(tab, served)
    await tab.evaluate("(area => { area.focus(); area.setSelectionRange(0, 0); })(document.querySelector('textarea'))")
    await tab.command("Input.insertText", text="// by keyboard\n")
    assert await tab.evaluate("document.querySelector('form').hasAttribute('data-edited')")
    # Tab leaves the editor
    await tab.press("Tab")
    assert await tab.evaluate("document.activeElement.value") == "review"
    await tab.press("Enter")
    await eventually(lambda: tab.evaluate("document.querySelector('#changes')?.textContent === 'What a save changes'"))
    assert "// by keyboard" in await tab.evaluate("document.querySelector('.diff .added').innerText")
    # what is typed after the review has to be reviewed too
    await replace(tab, "// by keyboard", "// by key")
    assert await tab.evaluate("document.querySelector('[data-save]').hidden")
    await replace(tab, "// by key\n", "// by keyboard\n")
    assert not await tab.evaluate("document.querySelector('[data-save]').hidden")
    await tab.evaluate("document.querySelector('textarea').focus()")
    await tab.press("Tab")
    assert await tab.evaluate("document.activeElement.value") == "save"
    await tab.press("Enter")
    await eventually(lambda: tab.evaluate("location.search === '?saved=1'"))
    assert served.path.read_text() == "// by keyboard\n" + TEXT
    assert tab.errors == []


async def test_every_state_of_the_page_fits_and_breaks_no_rule(tab, served, violations):
    """Check that the page Configuration has no fault in its layout and breaks no rule of axe, in any of its states.

    The states are: a list of findings, the review of a change that contains hostile text, a conflict with another save,
    and a file that cannot be written.
    """
    wrong = {}

    async def judge(name):
        for width in (PHONE, TABLET, DESK):
            await tab.screen(width)
            await tab.prefer("light")
            if lines := await faults(tab, width):
                wrong[name, width] = lines
            if width == TABLET:
                continue
            if found := await violations(tab):
                wrong[name, width, "light"] = found
            await tab.prefer("dark")
            if found := await violations(tab, colours=True):
                wrong[name, width, "dark"] = found

    await open_page(tab, served)
    await replace(tab, '"cost_basis"', f'"{HOSTILE}"')
    await press_button(tab, "check")
    assert HOSTILE in await tab.evaluate("document.querySelector('textarea').value")
    assert "2 findings" in await findings(tab)
    await judge("findings")
    await open_page(tab, served)
    await replace(tab, "nobody listens there", HOSTILE)
    await replace(tab, "65536", "131072")
    await press_button(tab, "review")
    assert await tab.evaluate("document.querySelectorAll('.diff .added').length") == 2
    await judge("review")
    _, answer = await served.config()
    await served.put(answer["config"].replace("the team's", "somebody's"))
    await press_button(tab, "save")
    assert "The file has changed since you began" in await tab.evaluate("document.querySelector('main').innerText")
    await judge("conflict")
    served.path.chmod(0o444)
    await open_page(tab, served)
    await judge("read-only")
    assert wrong == {}
    assert await tab.evaluate("document.querySelectorAll('main img').length") == 0
    # pages whose status says what is wrong are no faults of the script
    assert [error for error in tab.errors if "status of 409" not in str(error)] == []


async def test_the_page_does_all_of_it_without_a_script(tab, served):
    await tab.scripts(allowed=False)
    await open_page(tab, served)
    await tab.evaluate(
        "(area => { area.value = area.value.replace('65536', '\"many\"'); })(document.querySelector('textarea'))"
    )
    await press_button(tab, "check")
    assert re.search(r"1 finding\..*\s+Line 18, column \d+: server\.limits\.body_bytes", await findings(tab))
    await tab.evaluate(
        "(area => { area.value = area.value.replace('\"many\"', '131072'); })(document.querySelector('textarea'))"
    )
    await press_button(tab, "review")
    assert "changes from 65536 to 131072" in await tab.evaluate("document.querySelector('.changes').innerText")
    await press_button(tab, "save")
    assert "Saved." in await tab.evaluate("document.querySelector('main').innerText")
    assert served.path.read_text() == TEXT.replace("65536", "131072")
