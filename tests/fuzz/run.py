"""Coverage-guided fuzzing with atheris: `make fuzz FUZZ_TARGET=record FUZZ_SECONDS=600`.

    python -m tests.fuzz.run [--target NAME] [--seconds N] [--keep]

Without a target every one is run for so long, one after the other.  What is found (an input that makes a
harness raise, takes over 60 seconds or over 2 GiB) is kept as `.fuzz/<target>/crash-*`, and the exit code
is 1.  `--keep` then puts the inputs that reach most code into `tests/fuzz/corpus/<target>/`.
"""

from __future__ import annotations

import argparse
import gc
import random
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]
CORPUS = Path(__file__).parent / "corpus"
WORK = ROOT / ".fuzz"
KEPT_BYTES = 4096
"""Bytes of a target's corpus, ..."""
KEPT_FILES = 24
"""... and files."""
LONGEST_KEPT = 1024


def main() -> int:
    """0, or 1 where something was found."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--target", help="one target; all if left out")
    parser.add_argument("--seconds", type=int, default=60, help="of each target")
    parser.add_argument("--keep", action="store_true", help="minimise into the committed corpus")
    parser.add_argument("--fuzz-here", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.fuzz_here:
        return _fuzz(given.fuzz_here, given.seconds)
    from tests.fuzz.targets import TARGETS

    if given.target and given.target not in TARGETS:
        parser.error(f"no target {given.target!r}; there are: {', '.join(TARGETS)}")
    failed: list[str] = []
    for name in [given.target] if given.target else list(TARGETS):
        print(f"=== {name}: {given.seconds} s", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "tests.fuzz.run", "--fuzz-here", name]
        command += ["--seconds", str(given.seconds)]
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            failed.append(name)
        if given.keep:
            _keep(name)
    if failed:
        print(f"=== found something: {', '.join(failed)}; see {WORK}/<target>/crash-*", file=sys.stderr)
    return 1 if failed else 0


def _fuzz(name: str, seconds: int) -> int:
    """Does not return: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["pqdht"]):
        from tests.fuzz.targets import TARGETS
    target = TARGETS[name]
    place = WORK / name
    corpus = place / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for i, seed in enumerate(target.seeds()):
        (corpus / f"seed-{i}").write_bytes(seed)
    from tests.fuzz.mutate import mutate_tree

    def one(data: bytes) -> None:
        target.run(data)

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        dice = random.Random(seed)
        if dice.random() < 0.6 and len(data) > 1:
            changed = mutate_tree(data[1:], dice)
            if changed is not None and len(changed) < most:
                head = data[:1] if dice.random() < 0.8 else dice.randbytes(1)
                return head + changed
        mutated: bytes = atheris.Mutate(data, most)
        return mutated

    options = [
        sys.argv[0],
        f"-max_total_time={seconds}",
        f"-max_len={target.max_len}",
        "-len_control=0",
        f"-artifact_prefix={place}/",
        "-timeout=60",
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
        str(corpus),
        *([str(CORPUS / name)] if (CORPUS / name).is_dir() else []),
    ]
    for warm in target.seeds():
        one(warm)
    gc.collect()
    gc.freeze()
    if target.is_msgpack:
        atheris.Setup(options, one, custom_mutator=mutate)
    else:
        atheris.Setup(options, one)
    atheris.Fuzz()
    return 0


def _keep(name: str) -> None:
    """Greedy set cover: the inputs that reach most lines of `pqdht` for their size, and no more."""
    from tests.fuzz.targets import TARGETS

    target = TARGETS[name]
    kept = CORPUS / name
    places = [WORK / name / "corpus", kept]
    inputs = {p.read_bytes() for place in places if place.is_dir() for p in place.iterdir() if p.is_file()}
    covered = _lines(target.run, target.seeds())
    reach = {data: _lines(target.run, [data]) for data in inputs if len(data) <= LONGEST_KEPT}
    chosen: list[bytes] = []
    while reach and len(chosen) < KEPT_FILES:
        best = max(sorted(reach), key=lambda d: (len(reach[d] - covered) / (16 + len(d)), d))
        gain = reach.pop(best) - covered
        if not gain:
            break
        if sum(map(len, chosen)) + len(best) <= KEPT_BYTES:
            covered |= gain
            chosen.append(best)
    kept.mkdir(parents=True, exist_ok=True)
    for old in kept.iterdir():
        old.unlink()
    import hashlib

    for data in chosen:
        (kept / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    print(f"kept {len(chosen)} inputs, {sum(map(len, chosen))} bytes", file=sys.stderr)


def _lines(run: object, inputs: Iterable[bytes]) -> set[tuple[str, int, int]]:
    """(file, from, to) of the steps between lines of src/pqdht that these inputs take."""
    assert callable(run)
    steps: set[tuple[str, int, int]] = set()
    source = str(ROOT / "src" / "pqdht")

    def enter(frame: object, event: str, arg: object) -> object:
        name = frame.f_code.co_filename  # type: ignore[attr-defined]
        if not name.startswith(source):
            return None
        last = 0

        def step(inner: object, event: str, arg: object) -> object:
            nonlocal last
            line = inner.f_lineno  # type: ignore[attr-defined]
            steps.add((name, last, line))
            last = line
            return step

        return step

    for data in inputs:
        sys.settrace(enter)  # type: ignore[arg-type]
        try:
            run(data)
        finally:
            sys.settrace(None)
    return steps


if __name__ == "__main__":
    sys.exit(main())
