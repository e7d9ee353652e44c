"""Which two answers are compared: those of the paired experiment that runs, if one does.

Not covered: two answers on their way (`router.pairing`), drawing them (`tui.screens.pair`).
"""

from typing import TYPE_CHECKING

from data.errors import NotFound

if TYPE_CHECKING:
    from router.pairing import Pair
    from router.session import Session


def of_experiment(session: "Session", question: str, domain: str, conversation: str | None) -> "Pair | None":
    """The pair of the paired experiment that runs, None where none does; several are told apart by the domain.

    Reads the store and may route the question: call it in a thread. Raises NotFound where several run and none fits.
    """
    from router.pairing import pair

    running = [one for one in session.store.experiments.running() if one.kind == "paired"]
    if not running:
        return None
    if len(running) > 1 and not domain:
        domain = session.route(question).domain
        if domain not in [one.domain for one in running]:
            raise NotFound("several paired experiments run, and none is of this question's domain", "choose a domain: f2")
    return pair(session, question, domain if len(running) > 1 else running[0].domain, conversation=conversation)
