"""The way of a task as a LangGraph graph: one screen, the only path.

    admit -> [ screen -> recall -> draft -> weigh -> decide -> validate ] per step -> settle
      |                    ^________ redraft ________|                                  |
      ^________ the run that was followed was given up: this one takes its place _______|

A group of runs moves; each node works on the runs whose turn it is and leaves the others alone. With `regroup`,
runs that are accepted settle at once, and those to be redrafted or validated leave the graph unfinished: the caller
regroups them and they enter again where they stopped. **A run's result is the same in any group.**
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command
from langsmith import tracing_context

from orchestrator.cascade import admit, decide, draft, later, recall, screen, settle, validate, weigh
from orchestrator.cascade.run import Run, Stage
from orchestrator.cascade.runtime import Runtime, Step
from orchestrator.records import Outcome, Task

StageWork = Callable[[list[Run], Step, Runtime], Awaitable[None]]
IN_A_STEP: dict[Stage, StageWork] = {
    Stage.SCREEN: screen.screen,
    Stage.RECALL: recall.recall,
    Stage.DRAFT: draft.draft,
    Stage.WEIGH: weigh.weigh,
    Stage.DECIDE: decide.decide,
    Stage.VALIDATE: validate.validate,
}


class Given(TypedDict, total=False):
    """What the graph takes: tasks, or runs already under way."""

    tasks: list[Task]
    runs: list[Run]
    regroup: bool


class Returned(TypedDict):
    """Outcomes in the order of the tasks given."""

    outcomes: list[Outcome]


class State(Given, Returned):
    pass


class Untraced(CompiledStateGraph[Any, Any, Any, Any]):
    """A compiled graph that no environment variable makes trace: tasks would leave that way, local or not.
    Callbacks that a caller passes on purpose are called as ever."""

    async def astream(self, *given: Any, **named: Any) -> AsyncIterator[Any]:
        with tracing_context(enabled=False):
            async for part in super().astream(*given, **named):
                yield part


def assemble(
    name: str, steps: Sequence[str], at_work: Callable[[], Awaitable[Runtime]],
    take: Callable[[Sequence[Any], Runtime], list[Run]],
) -> Any:
    """The compiled graph of a pipeline with these step ids: {"tasks": [...]} -> {"outcomes": [...]}.

    `at_work` gives the runtime of the running event loop; `take` makes runs of tasks.
    """
    graph = StateGraph(State, input_schema=Given, output_schema=Returned)
    place = _Places(steps)

    async def enter(state: State) -> Command[Any]:
        rt = await at_work()
        runs = state.get("runs") or take(state.get("tasks", []), rt)
        waiting = [run for run in runs if run.stage is Stage.ADMIT]
        if waiting:
            await admit.admit(waiting, rt)
        return Command(update={"runs": runs, "outcomes": []}, goto=place.next(runs, state.get("regroup", False)))

    async def leave(state: State) -> Command[Any]:
        ready = [run for run in state["runs"] if run.stage is Stage.SETTLE]
        if ready:
            rt = await at_work()
            await settle.settle(ready, rt, wait=not state.get("regroup"))
            later.check_later(ready, rt)
        outcomes = [settle.outcome_or_failure(run) for run in state["runs"] if run.stage is Stage.DONE]
        taken_over = not state.get("regroup") and any(run.stage is Stage.ADMIT for run in state["runs"])
        return Command(update={"outcomes": outcomes}, goto="admit" if taken_over else END)

    graph.add_node("admit", enter, destinations=place.names)
    graph.add_node("settle", leave, destinations=("admit", END))
    graph.add_edge(START, "admit")
    for index in range(len(steps)):
        for stage, work in IN_A_STEP.items():
            here = place.name(index, stage)
            graph.add_node(here, _node(stage, work, index, at_work, place), destinations=place.names)
    return Untraced(**vars(graph.compile(checkpointer=False, name=name)))


def _node(
    stage: Stage, work: StageWork, index: int, at_work: Callable[[], Awaitable[Runtime]], place: _Places
) -> Any:
    """A node, which says itself where its group goes next: for a conditional edge LangGraph would copy each channel and
    run one more runnable, a fifth of all that it costs."""

    async def node(state: State) -> Command[Any]:
        rt = await at_work()
        await work([run for run in state["runs"] if run.stage is stage and run.step == index], rt.steps[index], rt)
        return Command(goto=place.next(state["runs"], state.get("regroup", False)))

    return node


class _Places:
    """The nodes of a pipeline's steps, and which of them a group goes to next."""

    def __init__(self, steps: Sequence[str]) -> None:
        self._steps = steps
        self._order = [(index, stage) for index in range(len(steps)) for stage in IN_A_STEP]
        self.names = (*(self.name(*place) for place in self._order), "settle")

    def name(self, index: int, stage: Stage) -> str:
        return stage.value if len(self._steps) == 1 else f"{self._steps[index]}.{stage.value}"

    def next(self, runs: Sequence[Run], regroup: bool) -> str:
        """The earliest place where a run of the group waits; with `regroup`, some leave to enter again."""
        waits = {(run.step, run.stage) for run in runs}
        for place in self._order:
            if place in waits and not (regroup and _leaves(place, runs)):
                return self.name(*place)
        return "settle"


def _leaves(place: tuple[int, Stage], runs: Sequence[Run]) -> bool:
    """True where runs waiting for a slow call would hold back others of the group that are further on."""
    index, stage = place
    if stage not in (Stage.VALIDATE, Stage.RECALL):
        return False
    if stage is Stage.RECALL and all(run.work.attempt == 1 for run in runs if run.stage is Stage.RECALL):
        return False
    return any(run.stage is Stage.SETTLE or (run.stage is not Stage.DONE and run.step > index) for run in runs)
