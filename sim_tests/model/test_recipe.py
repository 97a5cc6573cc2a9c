"""The experiment on the recipe: what it runs, what it leaves alone, and the table of what is there."""

import json

import pytest

from benchmarks import recipe, recipe_page
from model import ship
from model.configs import config_of


def result(model="deit_micro", arm="scratch_w1a8", seed=0, integer=88.0, losses=(0.5, 0.25, 0.125)):
    log = [{"epoch": str(epoch), "loss": str(loss)} for epoch, loss in enumerate(losses, 1)]
    return {"model": model, "arm": arm, "seed": seed, "integer": integer, "trained": integer + 0.1, "log": log}


def test_equal_budgets():
    """Every arm has the same epochs, those of the run it goes on from included; each goes on from one of its own model and seed."""
    runs = {run.name: run for run in recipe.every_run()}
    assert len(runs) == 2 * 3 * 7
    for run in runs.values():
        before = runs[f"{run.model}_{run.after}_{run.seed}"].epochs if run.after else (0, 0, 0)
        assert sum(run.epochs) + sum(before) == recipe.TOTAL or run.arm == recipe.PREFIX
        started = run.options[run.options.index("--start") + 1] if run.after else f"{run.model}_{run.after}_{run.seed}.pt"
        assert started.endswith(f"{run.model}_{run.after}_{run.seed}.pt")
    assert [run.seed for run in recipe.every_run()] == sorted(run.seed for run in recipe.every_run())


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(recipe, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(recipe, "PAGE", tmp_path / "training.md")
    (tmp_path / "results").mkdir()
    return tmp_path


def test_only_what_is_missing_is_run(folders, monkeypatch):
    """The shared stages are trained once, and again only where an arm needs their checkpoint."""
    trained = []

    def finish(run):
        trained.append(run.name)
        recipe.RUNS.mkdir(exist_ok=True)
        run.checkpoint.touch()
        recipe.result_path(run).write_text(json.dumps(result(run.model, run.arm, run.seed)))

    monkeypatch.setattr(recipe, "finish", finish)
    assert recipe.main(["--only", "deit_micro_progressive_w1a6_1"]) == 0
    assert trained == ["deit_micro_prefix_1", "deit_micro_progressive_w1a6_1"]
    assert recipe.main(["--only", "deit_micro_progressive_w1a6_1", "--only", "deit_micro_progressive_w1a4_1"]) == 0
    assert trained[2:] == ["deit_micro_progressive_w1a4_1"]
    assert recipe.main([]) == 0
    assert sorted(trained) == sorted(run.name for run in recipe.every_run())
    assert recipe.main([]) == 0 and len(trained) == len(recipe.every_run())


def test_a_run_from_training_to_the_page(folders, monkeypatch):
    """One arm of one epoch on random images, as the experiment does it."""
    monkeypatch.setattr(ship, "TEACHER", ("--source", "random", "--batch", "64"))
    monkeypatch.setattr(recipe.data, "fashion_mnist", lambda split: recipe.data.random_images(config_of("deit_micro"), 50))
    run = recipe.Run(model="deit_micro", arm="scratch_w1a8", seed=0, bits=8, epochs=(0, 0, 1))
    recipe.finish(run)
    figures = json.loads(recipe.result_path(run).read_text())
    assert 0 <= figures["integer"] <= 100 and len(figures["log"]) == 1 and "--epochs 0 0 1" in figures["command"]
    assert "| from scratch | W1A8 | " in recipe.PAGE.read_text()


def test_the_page_counts_seeds_and_says_what_is_missing():
    found = [result(seed=seed, integer=88.0 + seed) for seed in (0, 1)] + [result(arm="progressive_w1a8", integer=89.5, losses=(0.3, 0.1))]
    page = recipe_page.page(found, ("deit_micro", "deit_micro_wide"), 3, (4, 8, 12))
    assert "| from scratch | W1A8 | 88.50 (88.00 to 89.00), 2 of 3 | not run (0 of 3) |" in page
    assert "| progressive | W1A8 | 89.50, 1 of 3 | not run (0 of 3) |" in page
    assert "33 of 36 runs are missing" in page
    assert "* `deit_micro`, W1A8, progressive against from scratch, seed by seed: +1.50 points, +1.50 on average." in page
    assert "loss of its epoch 13, the first of its last stage, from scratch has reached by epoch 2." in page
    assert recipe_page.page([], ("deit_micro",), 3, (4, 8, 12)).count("not run (0 of 3)") == 6


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ((1.5,), "does not beat from scratch**: better in 1 of 1 pairs of one seed, +1.50 points on average.\nNo difference is shown"),
        ((0.5, 0.7), "beats from scratch**: better in 2 of 2 pairs of one seed, +0.60 points on average, standard error 0.10.\n"),
        ((-0.5, -0.7), "does not beat from scratch**: better in 0 of 2 pairs of one seed, -0.60 points on average, standard error 0.10.\n"),
        (
            (0.5, -0.1),
            "does not beat from scratch**: better in 1 of 2 pairs of one seed, +0.20 points on average, standard error 0.30.\nNo",
        ),
    ],
)
def test_the_page_claims_no_more_than_the_pairs_show(gains, verdict):
    """A difference that is less than twice its standard error is none."""
    pairs = [
        result(arm=arm, seed=seed, integer=integer)
        for seed, gain in enumerate(gains)
        for arm, integer in (("scratch_w1a8", 88.0), ("progressive_w1a8", 88.0 + gain))
    ]
    assert f"**Progressive {verdict}" in recipe_page.page(pairs, ("deit_micro",), 3, (4, 8, 12))


def test_the_committed_page_is_that_of_the_results():
    assert recipe.PAGE.read_text(encoding="utf-8") == recipe_page.page(recipe.results(), recipe.MODELS, len(recipe.SEEDS), recipe.EPOCHS)
