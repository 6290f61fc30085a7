"""A filter that refuses prompts with a forbidden word, and replaces this word in replies by stars.

"plugins": { "guard": { "word": "falcon" } }
"""

from gateway.contract import filter as filters
from gateway.contract.filter import blocked, hold
from gateway.contract.samples import FilterSample

api = 1
blocks = True


class Settings(filters.Settings):
    word: str


def open(call, settings):
    return Guard(settings.word)


class Guard:
    def __init__(self, word):
        self.word = word

    def request(self, asked):
        if any(self.word in text.text for text in asked.texts):
            raise blocked("forbidden_word", f'the word "{self.word}" is not allowed here')

    def text(self, kind, piece, last):
        return hold(piece.replace(self.word, "***"), len(self.word) - 1, last)


def samples():
    return [FilterSample(Settings(word="falcon"), texts=("a falcon and falcons",))]
