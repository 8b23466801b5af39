"""cli.siege and testing.siege: two networks under one attack, and what is shown of them."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from pqdht.cli.main import app
from pqdht.cli.output import INTERRUPTED
from pqdht.cli.siege import Screen
from pqdht.errors import ConfigError
from pqdht.testing.adversaries import ADVERSARIES
from pqdht.testing.loop import run
from pqdht.testing.siege import MIXED, SLEEP_S, Attack, Siege, parse_attacks

SMALL = ("--nodes", 16, "--attack", "poison=0.4", "--seconds", 10, "--seed", 3)


def invoke(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["testnet", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def test_the_poisoned_network_wins_with_its_defences_and_loses_without() -> None:
    code, out, err = invoke(*SMALL, "--json")
    assert (code, err) == (0, "")
    figures: dict[str, Any] = json.loads(out)
    guarded, plain = figures["with"], figures["without"]
    assert guarded["reads"] == plain["reads"] == 30
    assert guarded["forged"] == 0
    assert guarded["success"] > plain["success"]
    assert guarded["honest_in_quarantine"] == 0
    assert plain["forged"] > 0  # so the attack is one
    assert (figures["nodes"], figures["malicious"], figures["seconds"]) == (16, 6, 10)
    assert sorted({s["kind"] for s in figures["found_out"]}) == sorted(MIXED["poison"])
    assert all(s["accused"] >= s["proven"] for s in figures["found_out"])
    assert any(s["proven"] for s in figures["found_out"])
    assert any(s["held"] for s in figures["found_out"])
    assert "invalid_data" in guarded["events"]


def test_the_same_seed_gives_the_same_figures_and_another_one_others() -> None:
    def figures(seed: int) -> dict[str, Any] | None:
        siege = Siege([Attack("forger", 0.4)], nodes=6, seed=seed)
        run(lambda: siege.watch(2, lambda s: None))
        return siege.figures

    assert figures(1) == figures(1) != figures(2)


def test_without_a_terminal_there_are_lines_and_a_summary() -> None:
    code, out, _ = invoke("--nodes", 8, "--attack", "forger=0.4", "--seconds", 10)
    assert code == 0
    lines = [line.strip() for line in out.splitlines()]
    assert lines[:3] == ["starting", "peace: every owner publishes", "under attack"]
    assert [line.partition(":")[0] for line in lines[3:5]] == ["5 s  with", "10 s  with"]
    assert lines[5].split() == ["WITH", "DEFENCES", "WITHOUT"]
    (forged,) = [line.split() for line in lines if line.startswith("FORGED")]
    assert forged[2] == "0"
    assert max(map(len, out.splitlines()[6:])) <= 80  # a small terminal shows it without breaking lines
    (at,) = [i for i, line in enumerate(lines) if line.startswith("MALICIOUS")]
    assert len(lines[at + 1 :]) == 3


@pytest.mark.parametrize("height", [24, 40])
def test_on_a_terminal_there_is_one_screen(height: int) -> None:
    siege = Siege([Attack("forger", 0.6)], nodes=12, seed=1)
    console = Console(file=io.StringIO(), force_terminal=True, width=120, height=height)
    screen, pictures = Screen(siege, quiet=False, console=console), []

    def show(shown: Siege) -> None:
        screen.show(shown)
        paper = Console(file=io.StringIO(), width=120)
        paper.print(screen.picture())
        assert isinstance(paper.file, io.StringIO)
        pictures.append(paper.file.getvalue())

    with screen.live():
        run(lambda: siege.watch(2, show))
    assert max(p.count("\n") for p in pictures) <= height
    at, event, _ = siege.sides[0].news[-1]
    assert 0 <= at < 10  # since the attack began, not since the network did
    latest = event.kind.value
    for what in ("12 nodes, 7 of them malicious", "FORGED values", "CAUGHT BY", latest):
        assert what in pictures[-1]
    assert ("more\n" in pictures[-1]) == (height == 24)
    assert len(screen.final) == 7


def test_sleepers_wake() -> None:
    siege = Siege([Attack("sleeper", 0.6)], nodes=8, seed=1)
    accused: dict[int, int] = {}

    def show(shown: Siege) -> None:
        accused[shown.seconds] = sum(s.accused for s in shown.sides[0].suspects()) if shown.seconds else 0

    run(lambda: siege.watch(SLEEP_S + 5, show))
    assert accused[SLEEP_S] == 0 < accused[SLEEP_S + 5]


def test_who_stops_it_gets_what_there_is() -> None:
    siege = Siege([Attack("forger", 0.4)], nodes=8, seed=1)

    def show(shown: Siege) -> None:
        shown.is_stopped = shown.seconds == 2

    run(lambda: siege.watch(60, show))
    assert siege.figures is not None
    assert siege.figures["seconds"] == 2


@pytest.mark.parametrize("phase", ["starting", "peace: every owner publishes"])
def test_ctrl_c_before_the_attack_is_heard(phase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import signal

    show, shown = Screen.show, []

    def interrupted(self: Screen, siege: Siege) -> None:
        show(self, siege)
        shown.append(siege.phase)
        if siege.phase == phase and not siege.is_stopped:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Screen, "show", interrupted)
    code, out, err = invoke("--nodes", 12, "--attack", "forger=0.4", "--json")
    assert (code, out) == (INTERRUPTED, "")
    assert "before the attack began" in err
    assert shown.count(phase) == 1


def test_ctrl_c_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    import signal

    show = Screen.show

    def interrupted(self: Screen, siege: Siege) -> None:
        show(self, siege)
        if siege.seconds == 1 and not siege.is_stopped:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(Screen, "show", interrupted)
    code, out, err = invoke("--nodes", 8, "--attack", "forger=0.4", "--json")
    assert (code, json.loads(out)["seconds"], err) == (INTERRUPTED, 1, "")
    assert signal.getsignal(signal.SIGINT) is before


def test_every_adversary_can_be_sent() -> None:
    assert [a.kinds for a in parse_attacks(["poison=0.3", "denier=0.1"])] == [MIXED["poison"], ("denier",)]
    assert {kind for kinds in MIXED.values() for kind in kinds} <= set(ADVERSARIES)
    shown = invoke("--attack", "help")[1]
    assert [line.split()[0] for line in shown.splitlines()[1:]] == sorted({*ADVERSARIES, *MIXED})
    names = sorted(n for n, kind in ADVERSARIES.items() if not kind.needs_place)
    assert set(ADVERSARIES) - set(names) == {"sybil_cluster", "sybil_cluster_active"}
    nodes = len(names) + 5
    siege = Siege([Attack(name, 1 / nodes) for name in names], nodes=nodes, seed=1)
    run(lambda: siege.watch(2, lambda s: None))
    assert siege.figures is not None
    assert sorted(s["kind"] for s in siege.figures["found_out"]) == names
    assert siege.figures["with"]["forged"] == 0


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("--attack", "nonsense=0.1"), "there are address_spoofer, claimer"),
        (("--attack", "sybil_cluster=0.1"), "ground for one key"),
        (("--attack", "forger"), "NAME=share"),
        (("--attack", "forger=2"), "above 0 and at most 0.8"),
        (("--attack", "forger=nan"), "such as forger=0.3"),
        (("--attack", "forger=0.5", "--attack", "denier=0.4"), "at most 0.8"),
        (("--attack", "forger=0.1", "--nodes", 2), "too few"),
        (("--attack", "forger=0.1", "--processes"), "leave --processes out"),
        (("--attack", "forger=0.1", "--network", "main"), "use demo or testnet"),
        (("--attack", "forger=0.1", "--network", "nowhere"), "no network named"),
    ],
)
def test_what_cannot_be_sent_is_said(arguments: tuple[object, ...], what: str) -> None:
    code, out, err = invoke(*arguments)
    assert (code, out) == (ConfigError.exit_code, "")
    assert what in err
    assert err.count("\n") == 1
