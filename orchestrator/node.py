"""A pipeline as a node of somebody else's LangGraph graph, with that graph's own state."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from orchestrator.errors import InputError
from orchestrator.records import Call, Decision, Money, Outcome, Signal, StepResult, Task, Usage, Verdict

STATE_TYPES: tuple[type, ...] = (Outcome, StepResult, Decision, Verdict, Signal, Call, Usage, Money)
"""What a whole outcome in a state is made of: the types that a checkpointer's serializer is told to read back, as in
`JsonPlusSerializer(allowed_msgpack_modules=STATE_TYPES)`."""


def node(
    run: Callable[[Task], Outcome], arun: Callable[[Task], Awaitable[Outcome]], name: str, *,
    input: str, output: str, outcome: str | None, id: str | None,
) -> Any:
    """See `Pipeline.as_node`."""
    from langchain_core.runnables import RunnableLambda

    def task(state: Any) -> Task:
        found = _of(state, input)
        if found is None:
            raise InputError(f"the state has nothing under {input!r}, which as_node(input=…) names",
                             hint=f"it has {', '.join(map(repr, _keys(state))) or 'nothing'}")
        if isinstance(found, Task):
            return found
        return Task(input=found, id=_of(state, id) if id else None)

    def told(done: Outcome) -> dict[str, Any]:
        return {output: done.value} | ({outcome: done} if outcome else {})

    async def anode(state: Any) -> dict[str, Any]:
        return told(await arun(task(state)))

    return RunnableLambda(lambda state: told(run(task(state))), anode, name=name)


def _of(state: Any, key: str) -> Any:
    """What stands under a key; None where nothing was written there. States are mappings, or objects with fields."""
    return state.get(key) if isinstance(state, Mapping) else getattr(state, key, None)


def _keys(state: Any) -> list[str]:
    return sorted(state if isinstance(state, Mapping) else getattr(state, "__dict__", ()))
