"""Whatever is asked, asked again, edited and chosen in any order, the tree agrees with a plain model of it."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from data.chat import Message
from data.store import open_store

HOW = {"model": "echo/echo", "mode": "standard", "config": {}}


class Tree(RuleBasedStateMachine):
    """A conversation against a dict of parents."""

    store = None
    questions = Bundle("questions")
    answers = Bundle("answers")

    def __init__(self):
        super().__init__()
        begun = self.store.log.begin(Message("user", "root"), **HOW)
        self.conversation = begun.conversation
        self.parents = {}
        self.texts = {}
        self.leaf = ""
        self._note(begun, None, "root")
        self.root = begun

    def _note(self, begun, parent, text):
        self.parents |= {begun.question: parent, begun.answer: begun.question}
        self.texts |= {begun.question: text, begun.answer: ""}
        self.leaf = begun.answer

    def _path(self, leaf):
        path = [leaf]
        while self.parents[path[-1]]:
            path.append(self.parents[path[-1]])
        return path[::-1]

    @rule(target=answers, text=st.text(max_size=5, alphabet="ab"))
    def ask_on(self, text):
        parent = self.leaf
        begun = self.store.log.begin(Message("user", text), conversation=self.conversation, **HOW)
        self._note(begun, parent, text)
        return begun.answer

    @rule(target=questions, answer=answers, text=st.text(max_size=5, alphabet="ab"))
    def ask_from(self, answer, text):
        begun = self.store.log.begin(Message("user", text), parent=answer, **HOW)
        self._note(begun, answer, text)
        return begun.question

    @rule(target=answers, question=questions)
    def ask_again(self, question):
        begun = self.store.log.begin_again(question, **HOW)
        self._note(begun, self.parents[question], self.texts[question])
        return begun.answer

    @rule(target=questions, question=questions, text=st.text(max_size=5, alphabet="ab"))
    def edit(self, question, text):
        begun = self.store.log.edit(question, Message("user", text), **HOW)
        self._note(begun, self.parents[question], text)
        return begun.question

    @rule(target=questions)
    def edit_root(self):
        begun = self.store.log.edit(self.root.question, Message("user", "new root"), **HOW)
        self._note(begun, None, "new root")
        return begun.question

    @rule(turn=st.one_of(questions, answers))
    def choose(self, turn):
        inner = set(self.parents.values())
        below = [key for key in self.parents if key not in inner and turn in self._path(key)]
        self.leaf = max(below)
        assert self.store.log.set_leaf(self.conversation, turn) == self.leaf

    @invariant()
    def agrees(self):
        turns = self.store.log.turns(self.conversation)
        assert [turn.id for turn in turns] == self._path(self.leaf)
        for turn in turns:
            siblings = sorted(key for key, parent in self.parents.items() if parent == self.parents[turn.id])
            assert (turn.siblings, turn.sibling_index) == (len(siblings), siblings.index(turn.id))
            assert (turn.parent, turn.message.content) == (self.parents[turn.id], self.texts[turn.id])
        assert self.store.log.conversation(self.conversation).turns == len(self.parents)


def test_the_tree_of_turns_agrees_with_a_model():
    with open_store("sqlite://") as store:
        Tree.store = store
        run_state_machine_as_test(Tree, settings=settings(max_examples=15, stateful_step_count=15, deadline=None, database=None))
